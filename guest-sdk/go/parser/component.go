//go:build wasip1

package parser

import (
	"unsafe"

	"portreeve"
	"portreeve/internal/abi"
	"portreeve/internal/component"
)

//go:wasmexport portreeve:plugin/on-publish@0.1.0#parse
func export(address uintptr) uintptr {
	component.Enter()
	arguments := (*abi.ParseArguments)(unsafe.Pointer(address))
	outcome, err := Call(context(&arguments.Context), message(&arguments.Message))
	if err != nil {
		return component.Failed(err)
	}
	answer := component.Area[abi.AnswerList]()
	switch outcome := outcome.(type) {
	case portreeve.Pass:
		answer.Kind = 0
	case portreeve.Replace:
		answer.Kind, answer.List = 1, component.PutEach(outcome, putMessage)
	case portreeve.Drop:
		answer.Kind = 2
	case portreeve.Reject:
		answer.Kind, answer.List = 3, component.PutText(string(outcome))
	}
	return component.Answered()
}

//go:nosplit
//go:wasmexport cabi_post_portreeve:plugin/on-publish@0.1.0#parse
func end(uintptr) { component.Reset() }

func context(from *abi.Context) portreeve.Context {
	return portreeve.Context{
		Direction: portreeve.Direction(from.Direction),
		Device: portreeve.Device{
			Name:       component.Text(from.Device.Name),
			Product:    component.Text(from.Device.Product),
			ClientID:   component.Text(from.Device.ClientID),
			Attributes: component.Properties(from.Device.Attributes),
		},
		Gateway:    component.Text(from.Gateway),
		ReceivedAt: from.ReceivedAt,
	}
}

func message(from *abi.Message) portreeve.Message {
	to := portreeve.Message{
		Topic:           component.Text(from.Topic),
		Payload:         component.Bytes(from.Payload),
		QoS:             portreeve.QoS(from.QoS),
		Retain:          from.Retain != 0,
		ContentType:     component.OptionText(from.ContentType),
		ResponseTopic:   component.OptionText(from.ResponseTopic),
		CorrelationData: component.OptionBytes(from.CorrelationData),
		UserProperties:  component.Properties(from.UserProperties),
	}
	if from.PayloadFormat.Some != 0 {
		to.PayloadFormat = portreeve.UnspecifiedBytes + portreeve.PayloadFormat(from.PayloadFormat.Value)
	}
	if from.MessageExpiryInterval.Some != 0 {
		to.MessageExpiryInterval = new(from.MessageExpiryInterval.Value)
	}
	return to
}

func putMessage(from portreeve.Message) abi.Message {
	to := abi.Message{
		Topic:           component.PutText(from.Topic),
		Payload:         component.PutBytes(from.Payload),
		QoS:             component.PutEnum(uint8(from.QoS), uint8(portreeve.ExactlyOnce), "QoS"),
		ContentType:     component.PutOptionText(from.ContentType),
		ResponseTopic:   component.PutOptionText(from.ResponseTopic),
		CorrelationData: component.PutOptionBytes(from.CorrelationData),
		UserProperties:  component.PutProperties(from.UserProperties),
	}
	if from.Retain {
		to.Retain = 1
	}
	if from.PayloadFormat != portreeve.NoPayloadFormat {
		format := uint8(from.PayloadFormat - portreeve.UnspecifiedBytes)
		format = component.PutEnum(format, uint8(portreeve.UTF8-portreeve.UnspecifiedBytes), "PayloadFormat")
		to.PayloadFormat = abi.OptionByte{Some: 1, Value: format}
	}
	if from.MessageExpiryInterval != nil {
		to.MessageExpiryInterval = abi.OptionU32{Some: 1, Value: *from.MessageExpiryInterval}
	}
	return to
}
