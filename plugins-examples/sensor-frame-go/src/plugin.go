// Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
// battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}`
// becomes two bytes (u16, seconds), published to `…/down`.
package main

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"

	"portreeve"
	"portreeve/parser"
)

func init() { parser.Export(parse) }

// The gateway calls the exported function; main is not run.
func main() {}

func parse(context portreeve.Context, message portreeve.Message) (portreeve.Outcome, error) {
	if context.Direction == portreeve.Up {
		return up(message)
	}
	return down(message)
}

type telemetry struct {
	Temperature float64 `json:"temperature"`
	Humidity    float64 `json:"humidity"`
	Battery     float64 `json:"battery"`
}

func up(message portreeve.Message) (portreeve.Outcome, error) {
	frame := message.Payload
	if len(frame) != 6 {
		return portreeve.Reject(fmt.Sprintf("a frame has 6 bytes, this has %d", len(frame))), nil
	}
	payload, err := json.Marshal(telemetry{
		Temperature: float64(int16(binary.BigEndian.Uint16(frame))) / 100,
		Humidity:    float64(binary.BigEndian.Uint16(frame[2:])) / 100,
		Battery:     float64(binary.BigEndian.Uint16(frame[4:])) / 1000,
	})
	if err != nil {
		return nil, err
	}
	topic := message.SiblingTopic("telemetry")
	return portreeve.Replace{message.With(topic, payload).JSON()}, nil
}

func down(message portreeve.Message) (portreeve.Outcome, error) {
	var command struct {
		ReportInterval *uint16 `json:"report_interval"`
	}
	if err := json.Unmarshal(message.Payload, &command); err != nil {
		return portreeve.Reject(err.Error()), nil
	}
	if command.ReportInterval == nil {
		return portreeve.Reject("missing field `report_interval`"), nil
	}
	payload := binary.BigEndian.AppendUint16(nil, *command.ReportInterval)
	return portreeve.Replace{message.With(message.SiblingTopic("down"), payload)}, nil
}
