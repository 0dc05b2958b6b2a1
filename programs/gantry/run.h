/* SPDX-License-Identifier: Apache-2.0 */
/* gantry run: from its options to CRI's messages. */
#pragma once

#include "cli.h"

/* What the options say, as messages; all in cli->arena. */
struct run_config {
	Runtime__V1__PodSandboxConfig pod;
	Runtime__V1__ContainerConfig container;
	const char *handler; /* --runtime */
	const char *join;    /* --pod; NULL: a pod of its own */
	const char *image;   /* as it was given */
	const char *name;    /* of pod and container */
	const char *namespace_;
	const char *pull; /* missing, always, never */
	const char *username, *password;
	bool detach, keep, quiet;
	bool archive; /* the image is a checkpoint's archive, by its path: nothing to be fetched */
	uint64_t stop_us; /* between the stop signal and SIGKILL */
};

extern const struct opt run_options[];

/* INVALID_ARGUMENT names the option. */
int run_config_parse(struct cli *cli, const struct args *a, struct run_config *ret, struct err *e);

/* Adds an annotation to the pod. */
void run_config_annotate(struct cli *cli, struct run_config *c, const char *key, const char *value);

/* Values of options, each by itself. For the test. */
int run_parse_port(struct arena *a, const char *s, Runtime__V1__PortMapping **ret, struct err *e);
int run_parse_volume(struct arena *a, const char *s, Runtime__V1__Mount **ret, struct err *e);
int run_parse_mount(struct arena *a, const char *s, Runtime__V1__Mount **ret, struct err *e);
int run_parse_device(struct arena *a, const char *s, Runtime__V1__Device **ret, struct err *e);
int run_parse_ids(const char *s, Runtime__V1__IDMapping *ret, struct err *e);
/* "busybox-3fa2c1" out of "docker.io/library/busybox:latest". */
char *run_name_of_image(struct arena *a, const char *image);

/* 125, or what is known of a command that could not be started. */
int exec_failure_status(const struct err *e);
