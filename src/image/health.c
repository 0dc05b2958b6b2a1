/* SPDX-License-Identifier: Apache-2.0 */
/* Mirrors that failed: see health.h. */
#include "image/health.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "ipc/worker.h"

static void forget(struct image_health *h, size_t i)
{
	free(h->v[i].url);
	h->v[i] = h->v[--h->n];
}

void image_health_fini(struct image_health *h)
{
	while (h->n)
		forget(h, 0);
}

static size_t find(const struct image_health *h, const char *url)
{
	size_t i = 0;

	while (i < h->n && !streq(h->v[i].url, url))
		i++;
	return i;
}

static size_t first_to_go(const struct image_health *h)
{
	size_t first = 0;

	for (size_t i = 1; i < h->n; i++)
		if (h->v[i].until < h->v[first].until)
			first = i;
	return first;
}

void image_health_take(struct image_health *h, const struct ipc_in *event, uint64_t now)
{
	const char *url = ipc_get_str(event, WORKER_TAG_NAME);
	const char *why = str_or_empty(ipc_get_str(event, WORKER_TAG_STATE));
	size_t i;

	if (str_empty(url))
		return;
	i = find(h, url);
	if (!*why) {
		if (i < h->n) {
			log_info("mirror %s is well again", url);
			forget(h, i);
		}
		return;
	}
	if (i == h->n) {
		log_warn("mirror %s is asked last for %d seconds: %s", url, IMAGE_HEALTH_SECONDS,
			 why);
		if (h->n == IMAGE_HEALTH_MAX)
			forget(h, first_to_go(h));
		i = h->n++;
		h->v[i].url = xstrdup(url);
	}
	h->v[i].until = now + IMAGE_HEALTH_SECONDS * USEC_PER_SEC;
}

void image_health_put(struct image_health *h, struct ipc_out *request, uint64_t now)
{
	for (size_t i = h->n; i-- > 0;) {
		if (h->v[i].until <= now)
			forget(h, i);
		else
			ipc_put_str(request, WORKER_TAG_ILL, h->v[i].url);
	}
}
