// Does what it is asked to, with all that the contract has; tests/probe/cases.json asks.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"portreeve"
	"portreeve/log"
	"portreeve/parser"
	"portreeve/settings"
	"portreeve/state"
	"portreeve/verifier"
)

func init() {
	verifier.Export(verify)
	parser.Export(parse)
}

func main() {}

func verify(request portreeve.Connect) (portreeve.Verdict, error) {
	if request.UserName == nil {
		return nil, nil
	}
	switch *request.UserName {
	case "everything":
		return everything(request), nil
	case "nothing permitted":
		return &portreeve.Admission{DeviceName: "device-1", Permissions: portreeve.Only()}, nil
	case "server":
		refusal := portreeve.Refuse(portreeve.UseAnotherServer, "elsewhere")
		refusal.ServerReference = "a:1 b:2"
		return refusal, nil
	case "challenge":
		return portreeve.Challenge("nonce"), nil
	case "last word":
		admission := portreeve.Admit("device-1")
		admission.AuthenticationData = append(request.AuthenticationData, *request.AuthenticationMethod...)
		return admission, nil
	case "fail":
		return nil, errors.New("it failed")
	case "no text":
		return portreeve.Refuse(portreeve.Banned, "\xff"), nil
	case "no reason":
		return portreeve.Refuse(portreeve.UseAnotherServer+1, ""), nil
	case "index":
		return portreeve.Challenge(request.Password[5:]), nil
	case "nil":
		return portreeve.Admit(*request.Connection.TLS.ServerName), nil
	case "state":
		return askState(), nil
	case "settings":
		return askSettings(), nil
	case "system":
		return system()
	case "goroutines":
		return goroutines(), nil
	case "exit":
		os.Exit(1)
	}
	return portreeve.Refuse(portreeve.NotAuthorized, ""), nil
}

func everything(request portreeve.Connect) portreeve.Verdict {
	site, found := request.UserProperties.Get("site")
	if !found {
		site = "none"
	}
	connection := request.Connection
	return portreeve.Admission{
		DeviceName: "device-1",
		Product:    "probe",
		ExpiresIn:  60,
		CacheFor:   5,
		Attributes: portreeve.Properties{
			{Name: "client_id", Value: request.ClientID},
			{Name: "peer", Value: connection.PeerAddress},
			{Name: "gateway", Value: connection.Gateway},
			{Name: "numbers", Value: fmt.Sprint(request.KeepAlive, request.CleanStart, connection.Protocol)},
			{Name: "site", Value: site},
		},
		Permissions: portreeve.Only(
			portreeve.Permission{Action: portreeve.Publish, TopicFilter: "up/%d"},
			portreeve.Permission{Action: portreeve.PublishAndSubscribe, TopicFilter: "both/#"},
		),
	}
}

func askState() portreeve.Verdict {
	var said []any
	err := state.Set("k", []byte("value"), 60)
	said = append(said, err, string(state.Get("k")))
	_, err = state.Increment("k", 1, 0)
	state.Remove("k")
	said = append(said, err, state.Get("k") == nil)
	state.Increment("n", 40, 0)
	sum, err := state.Increment("n", 2, 0)
	said = append(said, sum, err)
	err = state.Set("empty", nil, 0)
	said = append(said, err, state.Get("empty") != nil)
	said = append(said, state.Set(strings.Repeat("k", 300), nil, 0), state.Set("\xff", nil, 0))
	return portreeve.Refuse(portreeve.ServerBusy, fmt.Sprint(said...))
}

func askSettings() portreeve.Verdict {
	all := settings.All()
	_, err := settings.Require("missing")
	number, _ := settings.IntOr("number", 0)
	_, wrong := settings.IntOr("a", 0)
	_, found := settings.Get("\xff")
	text := fmt.Sprint(len(all), all[0].Name, number, "; ", err, "; ", wrong, "; ", found)
	return portreeve.Refuse(portreeve.Banned, text)
}

func system() (portreeve.Verdict, error) {
	fmt.Println("printed")
	begin := time.Now()
	time.Sleep(time.Millisecond)
	_, err := os.ReadFile("/etc/passwd")
	text := fmt.Sprint(
		"random ", rand.Text() != rand.Text(), ", clock ", begin.Year() > 2025,
		", slept ", time.Since(begin) >= time.Millisecond, ", file ", err == nil,
		", arguments ", len(os.Args), ", environment ", len(os.Environ()),
	)
	return portreeve.Refuse(portreeve.QuotaExceeded, text), nil
}

// goroutines ask for settings while others do and the collector runs.
func goroutines() portreeve.Verdict {
	var group sync.WaitGroup
	var wrong int
	for range 8 {
		group.Go(func() {
			for range 50 {
				value, _ := settings.Get("a")
				runtime.Gosched()
				if value != "text" || len(settings.All()) != 2 {
					wrong++
				}
			}
		})
	}
	runtime.GC()
	group.Wait()
	return portreeve.Refuse(portreeve.NotAuthorized, fmt.Sprint(wrong, " wrong"))
}

func parse(context portreeve.Context, message portreeve.Message) (portreeve.Outcome, error) {
	if log.Enabled(log.LevelDebug) {
		log.Debug("asked", "device", context.Device.Name, "text", "\xff")
	}
	switch string(message.Payload) {
	case "pass":
		return portreeve.Pass{}, nil
	case "drop":
		return portreeve.Drop{}, nil
	case "fail":
		return nil, errors.New("it failed")
	case "panic":
		panic(context.Direction)
	case "nothing":
		return portreeve.Replace{}, nil
	case "two":
		full := message.With("b", []byte("{}")).JSON()
		full.QoS, full.Retain = portreeve.ExactlyOnce, true
		full.UserProperties = portreeve.Properties{{Name: "n", Value: "v"}, {Name: "n"}}
		return portreeve.Replace{message.With("a", nil), full}, nil
	case "same":
		return portreeve.Replace{message}, nil
	}
	text := fmt.Sprint(context.Device.Product, " ", context.Gateway, " ", context.Direction)
	return portreeve.Reject(text), nil
}
