/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bundle says of its container to who chooses a runtime: the annotations of containerd, CRI-O
 * and podman, and gantry's own; and what the container needs.
 *
 *	own                  containerd                             CRI-O
 *	gantry.handler       io.containerd.cri.runtime-handler      io.kubernetes.cri-o.RuntimeHandler
 *	gantry.image         io.kubernetes.cri.image-name           io.kubernetes.cri-o.ImageName
 *	gantry.namespace     io.kubernetes.cri.sandbox-namespace    io.kubernetes.cri-o.Namespace
 *	gantry.pod           io.kubernetes.cri.sandbox-name         io.kubernetes.cri-o.KubeName
 *	gantry.container     io.kubernetes.cri.container-name       io.kubernetes.container.name
 *	gantry.privileged    -                                      io.kubernetes.cri-o.PrivilegedRuntime
 *	gantry.label.KEY     -                                      io.kubernetes.cri-o.Labels
 *	-                    io.kubernetes.cri.container-type       io.kubernetes.cri-o.ContainerType
 *	-                    io.kubernetes.cri.sandbox-id           io.kubernetes.cri-o.SandboxID
 *
 * Own keys count where there is no container type.  Where there is one the annotations of a pod's
 * author are among the others (CRI-O hands on all), and he may not choose.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "image/reference.h"
#include "route/needs.h"
#include "route/route.h"
#include "wire/json.h"

#define BUNDLE_CONFIG_MAX (32u << 20) /* bytes of a config.json */
#define BUNDLE_LABELS_MAX 1024	      /* labels, and annotations, that are looked at */

struct bundle {
	struct route_facts facts; /* borrowed from here */
	struct needs needs;
	const char *run_handler; /* run.oci.handler, which crun acts on; NULL: none */
	bool own_handler;	 /* facts.handler is gantry.handler: it must be configured */
	const char *
		sandbox_id; /* of the pod that the container joins; NULL: none, or it is the pod's own */
	/* private */
	struct arena arena;
	jv *config, *labels;
	struct reference image;
};

/*
 * Reads DIR/config.json ("." where dir is NULL).  `host` is what the configuration does not say.
 * INVALID_ARGUMENT for what is no configuration; other errors for what cannot be read.
 */
int bundle_read(const char *dir, const struct needs_facts *host, struct bundle *ret, struct err *e);
/* The same of its bytes. */
int bundle_parse(const char *text, size_t n, const struct needs_facts *host, struct bundle *ret,
		 struct err *e);
void bundle_fini(struct bundle *b);
#define _cleanup_bundle_ __attribute__((cleanup(bundle_fini)))
