// The one program of the images under test: HTTP/1.1 on port 8000 with keep-alive, a process per connection, linked
// statically so that an image needs nothing else. Its behaviour comes from its environment:
//   VERSION            the body of every answer
//   UNHEALTHY=1        /health answers 500
//   READY_AFTER_MS     /health answers 500 until then
//   CRASH_AFTER_MS     it exits with code 3 then
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static void crash(int signal) {
    (void)signal;
    _exit(3);
}

static void end(int signal) {
    (void)signal;
    _exit(0);
}

// Answers until the client goes; a request is read up to the end of its body.
static void serve(int client, long start) {
    static char request[65536];
    size_t filled = 0;
    for (;;) {
        char *head_end;
        request[filled] = 0;
        while (!(head_end = strstr(request, "\r\n\r\n"))) {
            if (filled >= sizeof request - 1) return;
            ssize_t count = read(client, request + filled, sizeof request - 1 - filled);
            if (count <= 0) return;
            filled += (size_t)count;
            request[filled] = 0;
        }
        size_t length = 0;
        for (char *line = request; line < head_end; line = strstr(line, "\r\n") + 2)
            if (!strncasecmp(line, "content-length:", 15)) length = (size_t)atol(line + 15);
        size_t whole = (size_t)(head_end + 4 - request) + length;
        while (filled < whole) {
            if (whole > sizeof request - 1) return;
            ssize_t count = read(client, request + filled, sizeof request - 1 - filled);
            if (count <= 0) return;
            filled += (size_t)count;
        }
        int asks_health = !strncmp(request, "GET /health", 11);
        int ill = number("UNHEALTHY") || now_ms() - start < number("READY_AFTER_MS");
        const char *version = getenv("VERSION") ? getenv("VERSION") : "?";
        char answer[512];
        int bytes = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s",
                             asks_health && ill ? "500 Ill" : "200 OK", strlen(version), version);
        if (write(client, answer, (size_t)bytes) != bytes) return;
        memmove(request, request + whole, filled - whole);
        filled -= whole;
    }
}

int main(void) {
    long start = now_ms();
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8000)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 256)) {
        perror("listening on port 8000");
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGTERM, end); // as process 1 it would be ignored otherwise
    long crash_ms = number("CRASH_AFTER_MS");
    if (crash_ms) {
        signal(SIGALRM, crash);
        struct itimerval timer = {.it_value = {crash_ms / 1000, crash_ms % 1000 * 1000}};
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (fork() == 0) {
            signal(SIGTERM, SIG_DFL);
            close(listener);
            serve(client, start);
            _exit(0);
        }
        close(client);
    }
}
