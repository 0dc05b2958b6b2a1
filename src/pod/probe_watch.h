/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When runtimes are looked at again: soon after a program of theirs was replaced (inotify), and every
 * minute, because kernels and daemons change without a word.  A look is cheap: a probe whose report
 * still stands on the same runs nothing (runtime/report.h).
 */
#pragma once

struct node;

/* Begins, and from then on watches the directories that programs were found in.  Idempotent: every
 * probe calls it, that may have found one elsewhere. */
void probe_watch(struct node *n);
void probe_watch_end(struct node *n);
