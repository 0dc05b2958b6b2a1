/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any file as the configuration, and any request to it: the configuration is refused with a sentence,
 * or can be printed and read again; the choice is one that nothing speaks against, explained or not.
 * Parts of the input end with a zero byte: the file, handler, image, namespace, pod, container, label's
 * key and value, annotation's key and value; then single bytes.
 */
#include "base/fuzz.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/reference.h"
#include "route/route.h"
#include "runtime/caps.h"

struct input {
	const char *at, *end;
};

/* owned */
static char *next_text(struct input *in)
{
	size_t n = strnlen(in->at, (size_t)(in->end - in->at));
	char *s = xstrndup(in->at, n);

	in->at += n + (in->at + n < in->end);
	return s;
}

static unsigned next_byte(struct input *in)
{
	return in->at < in->end ? (unsigned char)*in->at++ : 0;
}

static void check_config(const struct config *c)
{
	_cleanup_strbuf_ struct strbuf one = STRBUF_NULL, two = STRBUF_NULL;
	struct config_flags flags = {0};
	struct err e = ERR_NULL;
	struct config again;

	config_dump(c, &one);
	if (one.len > CONFIG_FILE_MAX || config_load_text(&flags, &one, &again, &e) < 0)
		return; /* (a text with bytes that YAML has no way to say in quotes) */
	config_dump(&again, &two);
	FUZZ_ASSERT(streq(one.s, two.s));
	config_fini(&again);
}

static void check_choice(const struct config *c, const struct route_facts *f,
			 const struct route_state *states)
{
	struct route_choice choice = {0}, again = {0};
	_cleanup_arena_ struct arena a = ARENA_NULL;
	struct route *route = route_new(c);
	struct route_account account;
	struct err e = ERR_NULL, e2 = ERR_NULL;
	int r = route_choose(route, f, states, &choice, &e);

	FUZZ_ASSERT(route_explain(route, f, states, &a, &account, &again, &e2) == r);
	FUZZ_ASSERT(account.summary && *account.summary);
	if (r < 0) {
		FUZZ_ASSERT(e.msg[0] && (e.code == GRPC_INVALID_ARGUMENT ||
					 e.code == GRPC_FAILED_PRECONDITION));
		FUZZ_ASSERT(streq(e.msg, e2.msg));
	} else {
		const struct config_runtime *rt = &c->runtimes[choice.runtime];

		FUZZ_ASSERT(!memcmp(&choice, &again, sizeof(choice)));
		FUZZ_ASSERT(states[choice.runtime].available);
		FUZZ_ASSERT(!runtime_caps_missing(states[choice.runtime].caps, f->needs));
		FUZZ_ASSERT(choice.weaker == (rt->isolation < choice.asked));
		FUZZ_ASSERT(!choice.weaker || choice.rule->allow_weaker);
		FUZZ_ASSERT(str_empty(f->handler) || config_runtime_find(c, f->handler)->routes ||
			    streq(rt->name, f->handler));
	}
	route_free(route);
}

static void ask(const struct config *c, struct input *in)
{
	_cleanup_free_ char *handler = next_text(in), *image = next_text(in), *ns = next_text(in),
			    *pod = next_text(in), *container = next_text(in), *lk = next_text(in),
			    *lv = next_text(in), *ak = next_text(in), *av = next_text(in);
	_cleanup_reference_ struct reference ref = REFERENCE_NULL;
	const struct route_pair label = {lk, lv}, annotation = {ak, av};
	struct runtime_caps caps = {.has = next_byte(in)};
	struct route_state states[CONFIG_RUNTIMES_MAX];
	unsigned bits = next_byte(in), other = next_byte(in);
	struct route_binding bound = {.runtime = pod,
				      .isolation = (enum config_isolation)(other & 3),
				      .unit = (enum config_unit)(other >> 2 & 1),
				      .firm = other >> 3 & 1};
	struct route_facts f = {
		.container = bits & 1,
		.handler = handler,
		.namespace = ns,
		.pod = pod,
		.container_name = container,
		.labels = &label,
		.n_labels = bits >> 1 & 1,
		.annotations = &annotation,
		.n_annotations = bits >> 2 & 1,
		.privileged = bits >> 3 & 1,
		.user_namespace = bits >> 4 & 1,
		.bound = bits >> 5 & 1 ? &bound : NULL,
		.needs = next_byte(in),
	};

	if (reference_parse(image, &ref, NULL) == 0)
		f.image = &ref;
	for (size_t i = 0; i < c->n_runtimes; i++)
		states[i] = (struct route_state){.available = next_byte(in) % 4,
						 .caps = &caps,
						 .failed = next_byte(in) % 4 == 1 ? "f" : NULL};
	check_choice(c, &f, states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, (const char *)data + size};
	_cleanup_free_ char *text = next_text(&in);
	struct config_flags flags = {0};
	struct strbuf b = {text, strlen(text), strlen(text) + 1};
	struct err e = ERR_NULL;
	struct config c;

	if (config_load_text(&flags, &b, &c, &e) < 0) {
		FUZZ_ASSERT(e.msg[0]);
		return 0;
	}
	check_config(&c);
	ask(&c, &in);
	config_fini(&c);
	return 0;
}
