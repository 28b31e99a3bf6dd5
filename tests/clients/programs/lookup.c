/* Look-ups through the C library: getaddrinfo, getnameinfo and res_send, for musl and glibc alike.
 *
 * A line in, a line out (see ../session.py):
 *   any|4|6 NAME    ptr ADDRESS    type NUMBER NAME    many COUNT SUFFIX
 *   MILLISECONDS ok|none|fail|na [ADDRESS or word ...]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* A name without an address, which is an answer, or something that failed. */
static const char *status(int error)
{
	if (error == 0) return "ok";
	if (error == EAI_NONAME) return "none";
#ifdef EAI_NODATA
	if (error == EAI_NODATA) return "none";
#endif
	return "fail";
}

static void addresses(int family, const char *name)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *list = 0, *item;
	double began = now();
	int error = getaddrinfo(name, 0, &hints, &list);
	double took = now() - began;
	char text[INET6_ADDRSTRLEN];

	printf("%.3f %s", took, status(error));
	if (error) printf(" %s", gai_strerror(error));
	for (item = list; item && !error; item = item->ai_next) {
		const void *address = item->ai_family == AF_INET
			? (void *)&((struct sockaddr_in *)item->ai_addr)->sin_addr
			: (void *)&((struct sockaddr_in6 *)item->ai_addr)->sin6_addr;
		printf(" %s", inet_ntop(item->ai_family, address, text, sizeof text));
	}
	if (!error) freeaddrinfo(list);
}

static void pointer(const char *text)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6 };
	char name[NI_MAXHOST] = "";
	inet_pton(AF_INET6, text, &address.sin6_addr);
	double began = now();
	int error = getnameinfo((void *)&address, sizeof address, name, sizeof name, 0, 0, NI_NAMEREQD);
	printf("%.3f %s %s", now() - began, status(error), error ? gai_strerror(error) : name);
}

static void type(int number, const char *name)
{
	unsigned char query[600], answer[4096];
	double began = now();
	int length = res_mkquery(0, name, 1, number, 0, 0, 0, query, sizeof query);
	if (length > 0) length = res_send(query, length, answer, sizeof answer);
	printf("%.3f ", now() - began);
	if (length < 12) printf("fail no-answer");
	else if ((answer[3] & 15) == 0 && (answer[6] << 8 | answer[7])) printf("ok %d", answer[6] << 8 | answer[7]);
	else if ((answer[3] & 15) == 0) printf("none NODATA");
	else if ((answer[3] & 15) == 3) printf("none NXDOMAIN");
	else printf("fail rcode%d", answer[3] & 15);
}

static pthread_barrier_t start;
static const char *suffix;

static void *one_of_many(void *number)
{
	char name[256];
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = 0;
	snprintf(name, sizeof name, "m%ld.%s", (long)number, suffix);
	pthread_barrier_wait(&start);
	int error = getaddrinfo(name, 0, &hints, &list);
	if (!error) freeaddrinfo(list);
	return (void *)(long)error;
}

static void many(long count)
{
	pthread_t *threads = calloc(count, sizeof *threads);
	long number, failed = 0;
	void *error;
	pthread_barrier_init(&start, 0, count + 1);
	for (number = 0; number < count; number++)
		if (pthread_create(threads + number, 0, one_of_many, (void *)number)) exit(1);
	double began = now();
	pthread_barrier_wait(&start);
	for (number = 0; number < count; number++) {
		pthread_join(threads[number], &error);
		failed += error != 0;
	}
	printf("%.3f %s %ld", now() - began, failed ? "fail" : "ok", count - failed);
	pthread_barrier_destroy(&start);
	free(threads);
}

int main(void)
{
	char line[1024], word[16], rest[1000], name[1000];
	int number;
	res_init();
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%15s %999[^\n]", word, rest) != 2) break;
		if (!strcmp(word, "any")) addresses(AF_UNSPEC, rest);
		else if (!strcmp(word, "4")) addresses(AF_INET, rest);
		else if (!strcmp(word, "6")) addresses(AF_INET6, rest);
		else if (!strcmp(word, "ptr")) pointer(rest);
		else if (sscanf(rest, "%d %999s", &number, name) != 2) printf("0 na");
		else if (!strcmp(word, "type")) type(number, name);
		else if (!strcmp(word, "many")) { suffix = name; many(number); }
		else printf("0 na");
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
