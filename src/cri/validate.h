/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Validation of what a request says, before anything is made.  docs/validation.md has one
 * row for every field; the checks here stand in its order.
 *
 * All are pure but for the facts of the node.  INVALID_ARGUMENT "FIELD: found, expected".
 */
#pragma once

#include "pod/pod.h"

#define VALIDATE_NAME_MAX 253		  /* bytes of a name, a namespace, a uid */
#define VALIDATE_HOSTNAME_MAX 64	  /* HOST_NAME_MAX of Linux */
#define VALIDATE_PATH_MAX 4095		  /* PATH_MAX without its NUL */
#define VALIDATE_MAP_BYTES_MAX (1u << 20) /* labels, annotations: keys and values together */
#define VALIDATE_DNS_MAX 32		  /* servers, searches, options each */
#define VALIDATE_LIST_MAX 4096		  /* mounts, devices, ports, ... */
#define VALIDATE_VOLUMES_MAX 256	  /* images that a container mounts */
#define VALIDATE_ARGS_MAX 65536		  /* arguments, variables of the environment */
#define VALIDATE_ARG_MAX 131071		  /* bytes of one of them: MAX_ARG_STRLEN without its NUL */
#define VALIDATE_EXEC_BYTES_MAX (2u << 20) /* of all of them: a quarter of the usual stack limit */

#define VALIDATE_BINARY_MAX 32768 /* bytes of a variable's value that is no UTF-8 */

int validate_pod(const struct node *n, const Runtime__V1__PodSandboxConfig *c, struct err *e);
/* `with` is the sandbox_config of the request, or NULL. */
int validate_container(const struct node *n, const struct pod *p,
		       const Runtime__V1__ContainerConfig *c,
		       const Runtime__V1__PodSandboxConfig *with, struct err *e);
int validate_checkpoint(const Runtime__V1__CheckpointContainerRequest *q, struct err *e);
/* A command and its arguments. */
int validate_command(const char *field, char *const *v, size_t n, struct err *e);
/* Which streams a session has; a terminal's has no standard error of its own. */
int validate_streams(bool in, bool out, bool err, bool tty, struct err *e);
int validate_ports(const char *field, const int32_t *v, size_t n, struct err *e);
/* `field` names the message in errors: "config.linux.resources". */
int validate_resources(const struct node *n, const char *field,
		       const Runtime__V1__LinuxContainerResources *r, struct err *e);
