/* SPDX-License-Identifier: Apache-2.0 */
/* What the validation of pods and of containers share. */
#pragma once

#include <inttypes.h>

#include "base/mem.h"
#include "cri/cri.h"
#include "cri/validate.h"

/* Text of a bounded length without control characters. */
int check_text(const char *field, const char *s, bool may_be_empty, size_t max, struct err *e);
/* Such a text, not empty, that is part of the names of files and of plugins' arguments. */
int check_name(const char *field, const char *s, struct err *e);
/* Absolute, bounded, without "..". */
int check_path(const char *field, const char *s, bool may_be_empty, struct err *e);
bool has_dot_dot(const char *path);
int check_map(const char *field, struct cri_map_entry *const *v, size_t n, struct err *e);
int check_count(const char *field, size_t n, size_t max, struct err *e);
int check_ids(const char *field, const Runtime__V1__Int64Value *user,
	      const Runtime__V1__Int64Value *group, bool has_user_name, const int64_t *more,
	      size_t n_more, struct err *e);
int check_profile(const char *field, const Runtime__V1__SecurityProfile *p, bool is_path,
		  struct err *e);
int check_selinux(const char *field, const Runtime__V1__SELinuxOption *o, struct err *e);
/* The fields that went before SecurityProfile. */
int check_old_profile(const char *field, const char *s, struct err *e);
/* supplemental_groups_policy */
int check_policy(const char *field, int policy, struct err *e);
/* A pod's: mode and mappings.  NULL: it has the host's. */
int check_userns(const char *field, const Runtime__V1__UserNamespace *u, struct err *e);
bool same_mapping(Runtime__V1__IDMapping *const *a, size_t n_a, Runtime__V1__IDMapping *const *b,
		  size_t n_b);
