/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd is told (sd_notify(3)): a datagram to the socket in NOTIFY_SOCKET. */
#pragma once

#include <stdint.h>

/* "READY=1" and so on; nothing happens where no service manager listens. */
void notify_send(const char *state);
/* The watchdog's interval (WATCHDOG_USEC, for this process), 0 none. */
uint64_t notify_watchdog_us(void);
