/* Look-ups through c-ares: ares_getaddrinfo, ares_gethostbyaddr and ares_query. A line in, a line out, as lookup.c. */
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

static ares_channel channel;
static char found[16384];
static int outcome;
static long succeeded;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void add(const char *word)
{
	strncat(found, " ", sizeof found - strlen(found) - 1);
	strncat(found, word, sizeof found - strlen(found) - 1);
}

static void on_addresses(void *data, int error, int timeouts, struct ares_addrinfo *info)
{
	char text[INET6_ADDRSTRLEN];
	struct ares_addrinfo_node *node;
	outcome = error;
	(void)data, (void)timeouts;
	if (error) return;
	succeeded++;
	for (node = info->nodes; node; node = node->ai_next)
		add(inet_ntop(node->ai_family, node->ai_family == AF_INET
			? (void *)&((struct sockaddr_in *)node->ai_addr)->sin_addr
			: (void *)&((struct sockaddr_in6 *)node->ai_addr)->sin6_addr, text, sizeof text));
	ares_freeaddrinfo(info);
}

static void on_host(void *data, int error, int timeouts, struct hostent *host)
{
	(void)data, (void)timeouts;
	outcome = error;
	if (!error) add(host->h_name);
}

static void on_records(void *data, int error, int timeouts, unsigned char *answer, int length)
{
	char number[16];
	(void)data, (void)timeouts;
	outcome = error;
	if (error || length < 12) return;
	sprintf(number, "%d", answer[6] << 8 | answer[7]);
	add(number);
}

static void wait_for_all(void)
{
	for (;;) {
		fd_set readable, writable;
		struct timeval patience;
		FD_ZERO(&readable);
		FD_ZERO(&writable);
		int most = ares_fds(channel, &readable, &writable);
		if (most == 0) return;
		select(most, &readable, &writable, 0, ares_timeout(channel, 0, &patience));
		ares_process(channel, &readable, &writable);
	}
}

static void request_addresses(const char *name, int family)
{
	struct ares_addrinfo_hints hints = { .ai_family = family, .ai_socktype = SOCK_STREAM };
	ares_getaddrinfo(channel, name, 0, &hints, on_addresses, 0);
}

int main(void)
{
	char line[1024], word[16], rest[1000], name[1000];
	struct in6_addr address;
	int number;
	long index;

	if (ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel)) return 1;
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%15s %999[^\n]", word, rest) != 2) break;
		found[0] = 0, outcome = -1, succeeded = 0;
		double began = now();
		if (!strcmp(word, "any")) request_addresses(rest, AF_UNSPEC);
		else if (!strcmp(word, "4")) request_addresses(rest, AF_INET);
		else if (!strcmp(word, "6")) request_addresses(rest, AF_INET6);
		else if (!strcmp(word, "ptr")) {
			inet_pton(AF_INET6, rest, &address);
			ares_gethostbyaddr(channel, &address, sizeof address, AF_INET6, on_host, 0);
		} else if (sscanf(rest, "%d %999s", &number, name) == 2 && !strcmp(word, "type")) {
			ares_query(channel, name, 1, number, on_records, 0);
		} else {
			for (index = 0; index < number; index++) {
				snprintf(rest, sizeof rest, "m%ld.%s", index, name);
				request_addresses(rest, AF_UNSPEC);
			}
		}
		wait_for_all();
		const char *status = outcome == ARES_SUCCESS ? "ok"
			: outcome == ARES_ENOTFOUND || outcome == ARES_ENODATA ? "none" : "fail";
		if (!strcmp(word, "many")) printf("%.3f %s %ld\n", now() - began, succeeded == number ? "ok" : "fail", succeeded);
		else printf("%.3f %s%s%s\n", now() - began, status, outcome ? " " : found, outcome ? ares_strerror(outcome) : "");
		fflush(stdout);
	}
	ares_destroy(channel);
	return 0;
}
