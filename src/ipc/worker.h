/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What gantryd and gantry-worker say to each other, in frames (ipc.h): `gantry-worker` with
 * descriptor 3 as the connection, one request, progress events, one reply; then it ends.
 * IPC_CANCEL, or the end of the connection, makes it undo what is half-made and end.
 */
#pragma once

enum {
	/* ROOT HOSTS_DIR AUTH_FILE PARALLEL STALL MIRROR_WAIT LIMIT ILL... REFERENCE
	 * [auth] -> RECORD... IMAGE_ID */
	WORKER_PULL = 16,
	/* ROOT PATH PARALLEL -> RECORD... IMAGE_ID... */
	WORKER_LOAD = 17,
	/* ROOT IMAGE_ID -> REMOVED */
	WORKER_REMOVE = 18,
	/* ROOT -> BYTES INODES (of the layers), USAGE{NAME BYTES INODES} of each container */
	WORKER_MEASURE = 19,
	/* PATH MAX -> CONTENT */
	WORKER_READ = 20,
	/*
	 * ROOT NAME... IMAGE_ID... [USED... USED_KNOWN] [ANEW] [DRY]
	 *	-> RECORD... IMAGE_ID... REMOVED... BYTES INODES
	 * Removes the images, what an ended worker left half-made, layers of no image, the files of
	 * damaged layers that no USED image has, and the writable layers with these names; says how
	 * much that was (DRY: would be).  A tag that two images have stays with the one that
	 * took it last; an image without all of its layers is marked.  ANEW: the records and ids
	 * of all images are in the reply.
	 */
	WORKER_SWEEP = 21,
	/* ROOT IMAGE_ID REFERENCE... -> RECORD...: gives tags */
	WORKER_NAME = 22,
	/* ROOT IMAGE_ID... -> RECORD... RESULT{IMAGE_ID STATE [TEXT]}...: looks at all that is
	 * recorded of the images; STATE "good", "damaged", "unknown" (nothing to check it by) or
	 * "gone".  Damaged ones are marked in their records, damaged layers lose theirs. */
	WORKER_VERIFY = 23,
	/*
	 * ROOT IMAGE{IMAGE_ID REFERENCE...}... and a descriptor -> [RECORD... RESULT{...}]
	 * Writes an archive of the images, with these tags, to the descriptor; one progress event says
	 * how large (TOTAL) it will be.  A RESULT, as of WORKER_VERIFY, is of an image that was
	 * found damaged: what has been written is worth nothing.
	 */
	WORKER_SAVE = 24,
	/* ROOT PATH REFERENCE... CHANGE... [TEXT] -> RECORD... IMAGE_ID: an image of one layer */
	WORKER_IMPORT = 25,
	/* CDI_DIR... CDI_DEVICE... HOOKS_DIR... ANNOTATION{NAME TEXT}... COMMAND HAS_BINDS -> CONTENT: what files in these directories add to a container
	 * (programs/gantry-worker/edits.h) */
	WORKER_EDITS = 26,
	/* ROOT PATH, or the LAYER... of an image -> CONTENT: what the checkpoint in it is of
	 * (programs/gantry-worker/checkpoint.h) */
	WORKER_CHECKPOINT = 27,
	/* ROOT NAME PATH or LAYER..., LOWER...: puts the checkpoint into the writable layer of that
	 * name, which is there above the LOWERs: its files, and CRIU's images, in
	 * WORKER_RESTORE_DIR/checkpoint. What it leaves when it fails is the caller's to remove. */
	WORKER_RESTORE = 28,
};

#define WORKER_RESTORE_DIR "restore" /* in a writable layer */

enum {
	WORKER_EVENT_PROGRESS = 64, /* NAME STATE DONE TOTAL */
	WORKER_EVENT_HOST =
		65, /* NAME (URL of a mirror) STATE (what it did wrong; "": it is well again) */
};

enum {
	WORKER_TAG_ROOT = 16,
	WORKER_TAG_HOSTS_DIR = 17,
	WORKER_TAG_PARALLEL = 18,
	WORKER_TAG_REFERENCE = 19, /* canonical */
	WORKER_TAG_PATH = 20,
	WORKER_TAG_MAX = 21,
	WORKER_TAG_USERNAME = 24,
	WORKER_TAG_PASSWORD = 25,
	WORKER_TAG_AUTH = 26,
	WORKER_TAG_SERVER = 27,
	WORKER_TAG_IDENTITY_TOKEN = 28,
	WORKER_TAG_REGISTRY_TOKEN = 29,
	WORKER_TAG_RECORD = 32,	  /* JSON (image/record.h): new or changed */
	WORKER_TAG_REMOVED = 33,  /* id */
	WORKER_TAG_IMAGE_ID = 34, /* id of what was pulled or loaded */
	WORKER_TAG_CONTENT = 35,
	WORKER_TAG_BYTES = 36,
	WORKER_TAG_INODES = 37,
	WORKER_TAG_USAGE = 38, /* nested */
	WORKER_TAG_NAME = 39,
	WORKER_TAG_STATE = 40,
	WORKER_TAG_DONE = 41,
	WORKER_TAG_TOTAL = 42,
	WORKER_TAG_SEQ = 43,   /* u64: number of the change in the store's order */
	WORKER_TAG_STALL = 44, /* u64: seconds without a byte after which a transfer has failed */
	WORKER_TAG_ILL = 46,   /* URL of a mirror that failed not long ago; any number */
	WORKER_TAG_MIRROR_WAIT = 47, /* u64: seconds in which a mirror has to bring something */
	WORKER_TAG_LIMIT = 49,	     /* u64: seconds that a pull may take */
	WORKER_TAG_AUTH_FILE = 45,   /* the node's own credentials; may be absent */
	WORKER_TAG_ANEW = 48,	     /* u64: 1 or 0 */
	WORKER_TAG_USED = 50,	     /* id of an image that a container has */
	WORKER_TAG_USED_KNOWN = 51,  /* u64: 1: USED is all of them */
	WORKER_TAG_RESULT = 52,	     /* nested */
	WORKER_TAG_TEXT = 53,
	WORKER_TAG_DRY = 54,	     /* u64: 1 or 0 */
	WORKER_TAG_IMAGE = 55,	     /* nested */
	WORKER_TAG_CHANGE = 56,	     /* "CMD [\"sh\"]": an instruction for the configuration */
	WORKER_TAG_CDI_DIR = 57,     /* path; later ones go before earlier ones */
	WORKER_TAG_CDI_DEVICE = 58,  /* VENDOR/CLASS=NAME */
	WORKER_TAG_HOOKS_DIR = 59,   /* path; later ones go before earlier ones */
	WORKER_TAG_ANNOTATION = 60,  /* nested: of a container or its pod */
	WORKER_TAG_COMMAND = 61,     /* the first word of a container's command */
	WORKER_TAG_HAS_BINDS = 62,   /* u64: 1: the request has mounts */
	WORKER_TAG_LAYER = 63,	     /* a directory's name in <root>/layers; topmost first */
	WORKER_TAG_LOWER = 64,	     /* the same */
	WORKER_TAG_SNAPSHOTTER = 70, /* string: image.snapshotter; of every request */
};
