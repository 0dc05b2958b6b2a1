/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's terminal: see terminal.h.  Handlers call async-signal-safe functions alone. */
#include "terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"

/* Those that end a program and that main() does not catch. */
static const int fatal[] = {SIGQUIT, SIGILL,  SIGTRAP, SIGABRT, SIGBUS,	   SIGFPE,
			    SIGUSR1, SIGSEGV, SIGUSR2, SIGALRM, SIGVTALRM, SIGXCPU,
			    SIGXFSZ, SIGPROF, SIGPWR,  SIGSYS};

static struct termios before, raw;
static volatile sig_atomic_t is_raw;
static int size_fd = -EBADF;

void terminal_restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	is_raw = 0;
}

static void size_changed(void)
{
	uint64_t one = 1;

	(void)!write(size_fd, &one, sizeof(one));
}

static void on_winch(int signo)
{
	int saved = errno;

	(void)signo;
	size_changed();
	errno = saved;
}

/* SA_RESETHAND: what it does by itself comes after this. */
static void on_fatal(int signo)
{
	terminal_restore();
	raise(signo);
}

static void on_stop(int signo)
{
	int saved = errno;

	(void)signo;
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
	raise(SIGSTOP);
	errno = saved;
}

/* The shell may have set it as it likes; it may be of another size, too. */
static void on_continue(int signo)
{
	int saved = errno;

	(void)signo;
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	size_changed();
	errno = saved;
}

static void catch_signals(void)
{
	struct sigaction end = {.sa_handler = on_fatal, .sa_flags = SA_RESETHAND},
			 stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART},
			 go = {.sa_handler = on_continue, .sa_flags = SA_RESTART};

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &end, NULL);
	sigaction(SIGTSTP, &stop, NULL);
	sigaction(SIGCONT, &go, NULL);
}

int terminal_raw(struct err *e)
{
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return err_errno(e, -errno, "ask for the terminal's settings");
	terminal_watch_size();
	atexit(terminal_restore);
	raw = before;
	cfmakeraw(&raw);
	catch_signals();
	is_raw = 1; /* before it is: whoever ends in between restores what is there */
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
		return err_errno(e, -errno, "make the terminal raw");
	return 0;
}

int terminal_watch_size(void)
{
	struct sigaction sa = {.sa_handler = on_winch, .sa_flags = SA_RESTART};

	if (size_fd >= 0)
		return size_fd;
	size_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigaction(SIGWINCH, &sa, NULL);
	return size_fd;
}

void terminal_size_seen(void)
{
	uint64_t n;

	(void)!read(size_fd, &n, sizeof(n));
}

bool terminal_size(unsigned *ret_width, unsigned *ret_height)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		struct winsize w;

		if (ioctl(fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
			continue;
		*ret_width = w.ws_col;
		*ret_height = w.ws_row;
		return true;
	}
	return false;
}
