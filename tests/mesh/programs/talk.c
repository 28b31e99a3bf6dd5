/* Talks to other workloads by name, through the C library: for glibc and musl alike.
 *
 * A line in, a line out (see ../talking.py). NAME is looked up with getaddrinfo, for both families, and the first
 * address alone is tried, once. Times are in milliseconds; PATIENCE, too, for all of a command.
 *
 *   serve PORT                        ok                            goes on beside all that follows, over TCP and UDP
 *   lookup NAME                       ok LOOKUP ADDRESS ...
 *   tcp NAME PORT OCTETS [PATIENCE]   ok ADDRESS LOOKUP CONNECT FIRST TOTAL    so many octets there, as many others back
 *   udp NAME PORT [PATIENCE]          ok ADDRESS LOOKUP TOTAL                  one datagram there and back
 *   icmp NAME [PATIENCE]              ok ADDRESS LOOKUP TOTAL                  one echo
 *   hold NAME PORT                    holding ADDRESS               an octet there and back every 20 ms until the next
 *       (any line)                    ok COUNT LONGEST-GAP          line comes in
 *   spoof SOURCE DESTINATION PORT     ok COUNT                      UDP, TCP and ICMPv6 packets that name another sender
 *
 * What fails says: fail STAGE REASON. A command can be given as arguments as well, then it is the only one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 20.0      /* ms between the octets of a connection that is held */
#define LAST_OCTET 10000.0 /* ms; TCP has sent an octet that was lost many times by then */
#define GIVEN_UP 120000.0  /* ms; a held connection without an answer for so long is lost, whatever TCP thinks */

/* What a TCP client sends first. A count of 0 asks for an echo until the end. */
struct opening {
	uint64_t seed, count;
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void fail(const char *stage, const char *reason)
{
	printf("fail %s %s", stage, reason);
}

/* Octets that nobody could have guessed, and a sum that tells whether they arrived. */

static void fill(unsigned char *octets, size_t count, uint64_t *state)
{
	for (size_t at = 0; at < count; at++) {
		*state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
		octets[at] = *state >> 32;
	}
}

static uint64_t seed(void)
{
	static uint64_t number;
	return ((uint64_t)(now() * 1e6) * 0x9e3779b97f4a7c15 + (uint64_t)getpid() * 2654435761u + ++number) | 1;
}

static uint64_t other(uint64_t seed)
{
	return (seed * 6364136223846793005u) | 1;
}

static uint64_t sum(uint64_t so_far, const unsigned char *octets, size_t count)
{
	while (count--) so_far = (so_far ^ *octets++) * 0x100000001b3; /* FNV-1a */
	return so_far;
}

/* Sockets that give up at a deadline. */

static int ready(int fd, short events, double deadline)
{
	struct pollfd one = { fd, events, 0 };
	double left = deadline - now();
	int found = poll(&one, 1, left < 0 ? 0 : (int)left + 1);
	if (found == 0) errno = ETIMEDOUT;
	return found > 0;
}

static int send_all(int fd, const void *data, size_t count, double deadline)
{
	const char *octets = data;
	while (count) {
		ssize_t sent = send(fd, octets, count, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent > 0) octets += sent, count -= sent;
		else if (errno != EAGAIN || !ready(fd, POLLOUT, deadline)) return 0;
	}
	return 1;
}

static int receive_all(int fd, void *data, size_t count, double deadline)
{
	char *octets = data;
	while (count) {
		ssize_t received = recv(fd, octets, count, MSG_DONTWAIT);
		if (received > 0) octets += received, count -= received;
		else if (received == 0) return errno = ECONNRESET, 0;
		else if (errno != EAGAIN || !ready(fd, POLLIN, deadline)) return 0;
	}
	return 1;
}

/* An address, looked up; the time that it took; the address as text. Says what failed itself. */

struct target {
	struct sockaddr_storage address;
	socklen_t length;
	double lookup;
	char text[INET6_ADDRSTRLEN];
};

static int find(const char *name, int port, struct target *target)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list;
	char service[16];
	snprintf(service, sizeof service, "%d", port);
	double began = now();
	int error = getaddrinfo(name, service, &hints, &list);
	target->lookup = now() - began;
	if (error) return fail("lookup", gai_strerror(error)), 0;
	target->length = list->ai_addrlen;
	memcpy(&target->address, list->ai_addr, list->ai_addrlen);
	getnameinfo(list->ai_addr, list->ai_addrlen, target->text, sizeof target->text, 0, 0, NI_NUMERICHOST);
	freeaddrinfo(list);
	return 1;
}

static int connect_to(const struct target *target, int type, double deadline)
{
	int fd = socket(target->address.ss_family, type | SOCK_NONBLOCK, 0), error = 0, yes = 1;
	socklen_t length = sizeof error;
	if (fd < 0) return fail("socket", strerror(errno)), -1;
	if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	if (connect(fd, (void *)&target->address, target->length) < 0) {
		error = errno;
		if (error == EINPROGRESS) {
			if (!ready(fd, POLLOUT, deadline)) error = errno;
			else getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
		}
	}
	if (error) return fail("connect", strerror(error)), close(fd), -1;
	return fd;
}

/* The server */

static void *converse(void *number)
{
	int fd = (long)number, yes = 1;
	unsigned char block[16384]; /* a thread of musl's has a small stack */
	struct opening opening;
	uint64_t received = 0xcbf29ce484222325, state, left;
	ssize_t count;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
	if (recv(fd, &opening, sizeof opening, MSG_WAITALL) != sizeof opening) goto end;
	if (opening.count == 0) {
		while ((count = recv(fd, block, sizeof block, 0)) > 0)
			if (send(fd, block, count, MSG_NOSIGNAL) != count) break;
		goto end;
	}
	for (left = opening.count; left; left -= count) {
		count = recv(fd, block, left < sizeof block ? left : sizeof block, 0);
		if (count <= 0) goto end;
		received = sum(received, block, count);
	}
	if (send(fd, &received, sizeof received, MSG_NOSIGNAL) != sizeof received) goto end;
	for (state = other(opening.seed), left = opening.count; left; left -= count) {
		size_t next = left < sizeof block ? left : sizeof block;
		fill(block, next, &state);
		count = send(fd, block, next, MSG_NOSIGNAL);
		if (count != (ssize_t)next) goto end;
	}
end:
	close(fd);
	return 0;
}

static void *accept_all(void *listening)
{
	for (;;) {
		int fd = accept((long)listening, 0, 0);
		pthread_t thread;
		if (fd < 0) continue;
		if (pthread_create(&thread, 0, converse, (void *)(long)fd)) close(fd);
		else pthread_detach(thread);
	}
	return 0;
}

static void *echo_all(void *bound)
{
	for (;;) {
		char data[2048], control[256]; /* which address was asked: the one that answers */
		struct sockaddr_storage from;
		struct iovec part = { data, sizeof data };
		struct msghdr message = {
			.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof control,
		};
		ssize_t count = recvmsg((long)bound, &message, 0);
		if (count < 0) continue;
		part.iov_len = count;
		sendmsg((long)bound, &message, 0);
	}
	return 0;
}

static int listen_on(int port, int type)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, type, 0), yes = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof yes);
	if (fd < 0 || bind(fd, (void *)&any, sizeof any) || (type == SOCK_STREAM && listen(fd, 1024))) {
		fail("listen", strerror(errno));
		return -1;
	}
	return fd;
}

static void serve(int port)
{
	pthread_t thread;
	int stream = listen_on(port, SOCK_STREAM), datagrams = stream < 0 ? -1 : listen_on(port, SOCK_DGRAM);
	if (datagrams < 0) return;
	pthread_create(&thread, 0, accept_all, (void *)(long)stream);
	pthread_create(&thread, 0, echo_all, (void *)(long)datagrams);
	printf("ok");
}

/* The clients */

static void lookup(const char *name)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list, *item;
	char text[INET6_ADDRSTRLEN];
	double began = now();
	int error = getaddrinfo(name, 0, &hints, &list);
	if (error) return fail("lookup", gai_strerror(error));
	printf("ok %.3f", now() - began);
	for (item = list; item; item = item->ai_next) {
		getnameinfo(item->ai_addr, item->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
		printf(" %s", text);
	}
	freeaddrinfo(list);
}

static void exchange(int fd, const struct target *target, size_t count, double began, double deadline)
{
	double connected = now();
	struct opening opening = { seed(), count };
	unsigned char *octets = malloc(count), *expected = malloc(count);
	uint64_t state = opening.seed, arrived;

	fill(octets, count, &state);
	state = other(opening.seed);
	fill(expected, count, &state);
	if (!send_all(fd, &opening, sizeof opening, deadline) || !send_all(fd, octets, count, deadline)) {
		fail("send", strerror(errno));
	} else if (!receive_all(fd, &arrived, sizeof arrived, deadline)) {
		fail("answer", strerror(errno));
	} else if (arrived != sum(0xcbf29ce484222325, octets, count)) {
		fail("sent", "other octets arrived than were sent");
	} else {
		double first = now();
		if (!receive_all(fd, octets, count, deadline)) fail("receive", strerror(errno));
		else if (memcmp(octets, expected, count)) fail("received", "other octets came than were to come");
		else printf("ok %s %.3f %.3f %.3f %.3f", target->text, target->lookup, connected - began - target->lookup,
			    first - began, now() - began);
	}
	free(octets);
	free(expected);
}

static void tcp(const char *name, int port, long count, double patience)
{
	struct target target;
	double began = now(), deadline = began + patience;
	if (!find(name, port, &target)) return;
	int fd = connect_to(&target, SOCK_STREAM, deadline);
	if (fd < 0) return;
	exchange(fd, &target, count > 0 ? count : 1, began, deadline);
	close(fd);
}

static void udp(const char *name, int port, double patience)
{
	struct target target;
	double began = now(), deadline = began + patience;
	unsigned char octets[64], back[128];
	uint64_t state = seed();
	if (!find(name, port, &target)) return;
	int fd = connect_to(&target, SOCK_DGRAM, deadline);
	if (fd < 0) return;
	fill(octets, sizeof octets, &state);
	if (send(fd, octets, sizeof octets, 0) < 0) fail("send", strerror(errno));
	else if (!ready(fd, POLLIN, deadline)) fail("receive", strerror(errno));
	else if (recv(fd, back, sizeof back, 0) != sizeof octets || memcmp(octets, back, sizeof octets))
		fail("receive", errno ? strerror(errno) : "another datagram came");
	else printf("ok %s %.3f %.3f", target.text, target.lookup, now() - began);
	close(fd);
}

static void icmp(const char *name, double patience)
{
	struct target target;
	struct icmp6_filter replies;
	double began = now(), deadline = began + patience;
	struct { struct icmp6_hdr header; uint64_t token; } echo, back;
	if (!find(name, 0, &target)) return;
	int fd = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6);
	if (fd < 0) return fail("socket", strerror(errno));
	ICMP6_FILTER_SETBLOCKALL(&replies);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &replies);
	setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &replies, sizeof replies);
	memset(&echo, 0, sizeof echo);
	echo.header.icmp6_type = ICMP6_ECHO_REQUEST;
	echo.token = seed();
	if (connect(fd, (void *)&target.address, target.length) || send(fd, &echo, sizeof echo, 0) < 0) {
		fail("send", strerror(errno));
		goto end;
	}
	for (;;) {
		if (!ready(fd, POLLIN, deadline)) {
			fail("receive", strerror(errno));
			break;
		}
		if (recv(fd, &back, sizeof back, 0) == sizeof back && back.token == echo.token) {
			printf("ok %s %.3f %.3f", target.text, target.lookup, now() - began);
			break;
		}
	}
end:
	close(fd);
}

/* One octet there and back. Once the hold is to end, the octet that is on its way has little time left. */
static int echo_once(int fd, double last)
{
	struct pollfd either[2] = { { fd, POLLIN, 0 }, { 0, POLLIN, 0 } };
	unsigned char octet = 'x';
	double deadline = last + GIVEN_UP, left;
	int watched = 2;
	if (!send_all(fd, &octet, 1, deadline)) return 0;
	while ((left = deadline - now()) > 0 && poll(either, watched, (int)left + 1) > 0) {
		if (either[0].revents) return receive_all(fd, &octet, 1, deadline);
		watched = 1;
		if (now() + LAST_OCTET < deadline) deadline = now() + LAST_OCTET;
	}
	errno = ETIMEDOUT;
	return 0;
}

static void hold(const char *name, int port)
{
	struct target target;
	struct opening opening = { 0, 0 };
	char line[1024], reason[256] = "";
	double last, longest = 0;
	long count = 0;
	if (!find(name, port, &target)) return;
	int fd = connect_to(&target, SOCK_STREAM, now() + 5000), is_alive = 1;
	if (fd < 0) return;
	last = now();
	if (!send_all(fd, &opening, sizeof opening, last + 5000) || !echo_once(fd, last)) {
		fail("hold", errno ? strerror(errno) : "no answer");
		close(fd);
		return;
	}
	printf("holding %s\n", target.text);
	fflush(stdout);
	last = now();
	while (is_alive && !ready(0, POLLIN, last + INTERVAL)) {
		is_alive = echo_once(fd, last);
		if (is_alive) count++;
		else snprintf(reason, sizeof reason, "%s", strerror(errno));
		if (now() - last > longest) longest = now() - last;
		last = now();
	}
	close(fd);
	if (!fgets(line, sizeof line, stdin)) exit(0);
	if (!is_alive) printf("fail hold %ld %.3f %s", count, longest, reason);
	else printf("ok %ld %.3f", count, longest);
}

/* Packets in another's name */

static uint16_t checksum(const unsigned char *packet, int length, int protocol)
{
	uint32_t total = length + protocol;
	int at;
	for (at = 8; at < 40; at += 2) total += packet[at] << 8 | packet[at + 1]; /* both addresses */
	for (at = 0; at < length; at++) total += at % 2 ? packet[40 + at] : packet[40 + at] << 8;
	while (total >> 16) total = (total & 0xffff) + (total >> 16);
	return htons(~total);
}

static int forge(int fd, const struct in6_addr *from, const struct sockaddr_in6 *to, int protocol, int port)
{
	unsigned char packet[128] = { 0x60 };
	unsigned char *rest = packet + 40;
	int length = protocol == IPPROTO_TCP ? 20 : 16, place = protocol == IPPROTO_UDP ? 6 : protocol == IPPROTO_TCP ? 16 : 2;
	packet[5] = length, packet[6] = protocol, packet[7] = 64;
	memcpy(packet + 8, from, 16);
	memcpy(packet + 24, &to->sin6_addr, 16);
	if (protocol == IPPROTO_ICMPV6) {
		rest[0] = ICMP6_ECHO_REQUEST;
	} else {
		rest[0] = 40000 >> 8, rest[1] = 40000 & 255, rest[2] = port >> 8, rest[3] = port & 255;
		if (protocol == IPPROTO_UDP) rest[5] = length;
		else rest[12] = 5 << 4, rest[13] = TH_SYN, rest[14] = 1;
	}
	uint16_t total = checksum(packet, length, protocol);
	memcpy(rest + place, &total, 2);
	return sendto(fd, packet, 40 + length, 0, (void *)to, sizeof *to) == 40 + length;
}

static void spoof(const char *source, const char *destination, int port)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	struct in6_addr from;
	int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW), sent = 0, round;
	if (fd < 0) return fail("socket", strerror(errno));
	if (inet_pton(AF_INET6, source, &from) != 1 || inet_pton(AF_INET6, destination, &to.sin6_addr) != 1) {
		fail("spoof", "these are no addresses");
	} else {
		for (round = 0; round < 3; round++) {
			sent += forge(fd, &from, &to, IPPROTO_UDP, port);
			sent += forge(fd, &from, &to, IPPROTO_TCP, port);
			sent += forge(fd, &from, &to, IPPROTO_ICMPV6, port);
		}
		if (sent) printf("ok %d", sent);
		else fail("send", strerror(errno));
	}
	close(fd);
}

static void obey(const char *line)
{
	char word[16] = "", name[512] = "", second[512] = "", third[512] = "", fourth[512] = "";
	int given = sscanf(line, "%15s %511s %511s %511s %511s", word, name, second, third, fourth);
	errno = 0;
	if (!strcmp(word, "serve") && given == 2) serve(atoi(name));
	else if (!strcmp(word, "lookup") && given == 2) lookup(name);
	else if (!strcmp(word, "tcp") && given >= 4) tcp(name, atoi(second), atol(third), given > 4 ? atof(fourth) : 5000);
	else if (!strcmp(word, "udp") && given >= 3) udp(name, atoi(second), given > 3 ? atof(third) : 1000);
	else if (!strcmp(word, "icmp") && given >= 2) icmp(name, given > 2 ? atof(second) : 1000);
	else if (!strcmp(word, "hold") && given == 3) hold(name, atoi(second));
	else if (!strcmp(word, "spoof") && given == 4) spoof(name, second, atoi(third));
	else fail("command", "there is no such one");
	printf("\n");
	fflush(stdout);
}

int main(int count, char **words)
{
	char line[2048] = "";
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdin, 0, _IONBF, 0); /* so that poll knows of each line */
	if (count > 1) {
		for (int at = 1; at < count; at++) {
			strncat(line, words[at], sizeof line - strlen(line) - 2);
			strcat(line, " ");
		}
		obey(line);
		if (!strcmp(words[1], "serve")) pause();
		return 0;
	}
	while (fgets(line, sizeof line, stdin)) obey(line);
	return 0;
}
