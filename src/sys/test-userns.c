/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/test.h"
#include "sys/userns.h"

static void test_map(void)
{
	static const char *const good[] = {"0 100000 65536", "0 4294901759 65536", "1 2 3"};
	static const char *const bad[] = {
		"",	  "0",	    "0 1",    "0 1 0",	 "0 1 2 3", " 0 1 2",	      "0 1 2 ",
		"0  1 2", "-1 1 2", "0 +1 2", "0 1 2\n", "00 1 2",  "0 4294967296 1", "a b c",
		"0 1 0x2"};
	struct userns_map m = {7, 7, 7};
	char text[USERNS_MAP_TEXT];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!userns_map_parse(bad[i], &m));
	CHECK_INT(m.host, 7);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CHECK(userns_map_parse(good[i], &m));
		userns_map_print(&m, text);
		CHECK_STR(text, good[i]);
	}
}

int main(void)
{
	TEST(map);
	return test_done();
}
