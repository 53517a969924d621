// Sends the events of one scenario with posthog-go, and ends when the SDK says that all are sent.
//
//	driver HOST TOKEN SCENARIO
//
// Standard output is one JSON object a line: {"failed": n} for each try that failed, at the end
// {"errors": [...]} with what the SDK reported.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/posthog/posthog-go"
)

const (
	batch = 250
	// The most tries that the SDK allows, so that a server that is away for seconds is only late.
	retries    = 9
	retryDelay = 2 * time.Second
	// Close gives up what is being tried again, so it must come after the answers.
	patience = 40 * time.Second
)

func main() {
	host, token, scenario := os.Args[1], os.Args[2], os.Args[3]
	watch := &watch{seen: make(chan struct{}, 2*batch), errors: []string{}}
	send, found := scenarios[scenario]
	if !found {
		panic("no scenario " + scenario)
	}
	maxRetries := retries
	config := posthog.Config{
		Endpoint:   host,
		Interval:   50 * time.Millisecond,
		Transport:  watch,
		Callback:   watch,
		MaxRetries: &maxRetries,
		RetryAfter: func(int) time.Duration { return retryDelay },
		Logger:     quiet{},
	}
	send.configure(&config)
	client, err := posthog.NewWithConfig(token, config)
	if err != nil {
		panic(err)
	}
	sent := send.events()
	for _, message := range sent {
		if err := client.Enqueue(message); err != nil {
			watch.report(err)
		}
	}
	watch.wait(len(sent))
	if err := client.Close(); err != nil {
		watch.report(err)
	}
	say(map[string]any{"errors": watch.errors})
}

type scenario struct {
	configure func(*posthog.Config)
	events    func() []posthog.Message
}

var scenarios = map[string]scenario{
	"everything": {asItIs, everything},
	"plain":      {asItIs, many},
	"compressed": {func(config *posthog.Config) { config.Compression = posthog.CompressionGzip }, many},
	"historical": {func(config *posthog.Config) { config.HistoricalMigration = true }, many},
}

func asItIs(*posthog.Config) {}

func everything() []posthog.Message {
	return []posthog.Message{
		posthog.Capture{
			DistinctId: "ada",
			Event:      "with properties",
			Properties: posthog.Properties{
				"plan": "team", "n": 42, "f": 1.5, "t": "é🦔",
				"nested": map[string]any{"a": []any{1, "two", nil}},
			},
		},
		posthog.Capture{
			DistinctId: "ada",
			Event:      "own id and time",
			Uuid:       "0192f0c1-2345-7abc-8def-0123456789ac",
			Timestamp:  time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC),
		},
		posthog.Capture{
			DistinctId: "ada",
			Event:      "in group",
			Groups:     posthog.Groups{"company": "acme"},
		},
		posthog.Capture{
			DistinctId: "ada",
			Event:      "anonymous",
			Properties: posthog.Properties{"$process_person_profile": false},
		},
		posthog.Identify{
			DistinctId: "ada",
			Properties: posthog.Properties{"name": "Ada"},
		},
		posthog.Alias{DistinctId: "ada", Alias: "anonymous-1"},
		posthog.GroupIdentify{
			Type:       "company",
			Key:        "acme",
			Properties: posthog.Properties{"name": "Acme"},
		},
		posthog.NewDefaultException(time.Now(), "ada", "RangeError", "no such page"),
	}
}

func many() []posthog.Message {
	messages := make([]posthog.Message, batch)
	for n := range messages {
		messages[n] = posthog.Capture{
			DistinctId: fmt.Sprintf("user-%d", n%7),
			Event:      "many",
			Properties: posthog.Properties{"n": n},
		}
	}
	return messages
}

// watch says each try that fails, and knows when every event has been answered.
type watch struct {
	lock   sync.Mutex
	failed int
	errors []string
	seen   chan struct{}
}

func (watch *watch) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		watch.lock.Lock()
		defer watch.lock.Unlock()
		watch.failed++
		say(map[string]any{"failed": watch.failed})
	}
	return response, err
}

func (watch *watch) Success(posthog.APIMessage) { watch.seen <- struct{}{} }

func (watch *watch) Failure(_ posthog.APIMessage, err error) {
	watch.report(err)
	watch.seen <- struct{}{}
}

func (watch *watch) report(err error) {
	watch.lock.Lock()
	defer watch.lock.Unlock()
	watch.errors = append(watch.errors, err.Error())
}

func (watch *watch) wait(count int) {
	late := time.After(patience)
	for range count {
		select {
		case <-watch.seen:
		case <-late:
			watch.report(fmt.Errorf("no answer within %s", patience))
			return
		}
	}
}

// quiet is a logger that says nothing: what fails is in the callback.
type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Logf(string, ...any)   {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

func say(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
