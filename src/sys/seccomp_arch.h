/* SPDX-License-Identifier: Apache-2.0 */
/* What seccomp filters need to know of the machine and the build that they are for. */
#pragma once

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>

/* A program with AddressSanitizer cannot be confined. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true /* it maps terabytes, and looks at itself with ptrace */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* AUDIT_ARCH_* of this machine; not defined: no filter is known for it. */
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#endif

/* Where the lower half of a system call's argument is. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define ARG_LOW(i) (offsetof(struct seccomp_data, args[i]) + 4)
#else
#define ARG_LOW(i) (offsetof(struct seccomp_data, args[i]))
#endif
