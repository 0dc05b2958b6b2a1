/* SPDX-License-Identifier: Apache-2.0 */
/* Names of CDI devices: see cdi.h. */
#include "spec/cdi.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"

#define PART_MAX 253 /* bytes of a vendor, a class, a name */

static bool part_good(const char *s, size_t n, bool digit_first, const char *signs)
{
	if (n == 0 || n > PART_MAX || !isalnum((unsigned char)s[n - 1]))
		return false;
	if (digit_first ? !isalnum((unsigned char)*s) : !isalpha((unsigned char)*s))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(signs, s[i]))
			return false;
	return true;
}

bool spec_cdi_name_good(const char *s)
{
	size_t vendor = strcspn(s, "/="), class, name;

	if (s[vendor] != '/')
		return false;
	class = strcspn(s + vendor + 1, "=");
	if (s[vendor + 1 + class] != '=')
		return false;
	name = vendor + class + 2;
	return part_good(s, vendor, false, "_-.") &&
	       part_good(s + vendor + 1, class, false, "_-.") &&
	       part_good(s + name, strlen(s + name), true, "_-.:");
}

bool spec_cdi_is_annotation(const char *key)
{
	return str_has_prefix(key, CDI_ANNOTATION);
}

static void add(struct strv *to, char *name)
{
	if (strv_contains(to, name))
		free(name);
	else
		strv_take(to, name);
}

static void add_all(struct strv *to, const char *names)
{
	for (;;) {
		size_t n = strcspn(names, ",");

		add(to, xstrndup(names, n));
		if (!names[n])
			return;
		names += n + 1;
	}
}

void spec_cdi_devices(const Runtime__V1__ContainerConfig *c, struct strv *to)
{
	for (size_t i = 0; i < c->n_cdi_devices; i++)
		add(to, xstrdup(c->cdi_devices[i]->name));
	for (size_t i = 0; i < c->n_annotations; i++)
		if (spec_cdi_is_annotation(c->annotations[i]->key))
			add_all(to, c->annotations[i]->value);
}
