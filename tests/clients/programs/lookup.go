// Look-ups through Go's own resolver (built with CGO_ENABLED=0). A line in, a line out, as lookup.c.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

var ctx = context.Background()

func addresses(network, name string) (words []string, err error) {
	found, err := net.DefaultResolver.LookupIP(ctx, network, name)
	for _, ip := range found {
		words = append(words, ip.String())
	}
	return
}

// Only the types that package net has a function for.
func records(number, name string) ([]string, error) {
	switch number {
	case "16":
		return net.DefaultResolver.LookupTXT(ctx, name)
	case "33":
		_, found, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
		return make([]string, len(found)), err
	}
	return nil, errNotThere
}

var errNotThere = errors.New("na")

func many(count int, suffix string) (words []string, err error) {
	var group sync.WaitGroup
	failures := make(chan error, count)
	for number := 0; number < count; number++ {
		name := fmt.Sprintf("m%d.%s", number, suffix)
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := addresses("ip", name); err != nil {
				failures <- err
			}
		}()
	}
	group.Wait()
	if len(failures) > 0 {
		err = <-failures
	}
	return []string{fmt.Sprint(count - len(failures))}, err
}

func look(fields []string) ([]string, error) {
	switch fields[0] {
	case "any":
		return addresses("ip", fields[1])
	case "4", "6":
		return addresses("ip"+fields[0], fields[1])
	case "ptr":
		found, err := net.DefaultResolver.LookupAddr(ctx, fields[1])
		return found, err
	case "type":
		return records(fields[1], fields[2])
	}
	var count int
	fmt.Sscan(fields[1], &count)
	return many(count, fields[2])
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		began := time.Now()
		words, err := look(strings.Fields(lines.Text()))
		took := float64(time.Since(began).Microseconds()) / 1000
		status := "ok"
		var problem *net.DNSError
		if err == errNotThere {
			status = "na"
		} else if err != nil {
			status, words = "fail", []string{err.Error()}
			if errors.As(err, &problem) && problem.IsNotFound {
				status = "none"
			}
		}
		for i, word := range words {
			words[i] = strings.ReplaceAll(word, " ", "_")
			if word == "" {
				words[i] = "-"
			}
		}
		fmt.Printf("%.3f %s %s\n", took, status, strings.Join(words, " "))
	}
}
