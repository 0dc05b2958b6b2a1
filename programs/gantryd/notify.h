/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What systemd is told (sd_notify(3)): a datagram to the socket in NOTIFY_SOCKET.
 *
 * notify_init() takes what is said to us out of the environment, before anything is started:
 * an OCI runtime that inherits NOTIFY_SOCKET takes it for its container's, and `start` waits
 * until the container has said that it is ready.
 */
#pragma once

#include <stdint.h>

void notify_init(void);
/* "READY=1" and so on; nothing happens where no service manager listens. */
void notify_send(const char *state);
/* The watchdog's interval (WATCHDOG_USEC, for this process), 0 none. */
uint64_t notify_watchdog_us(void);
