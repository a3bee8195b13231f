//go:build wasip1

package verifier

import (
	"unsafe"

	"portreeve"
	"portreeve/internal/abi"
	"portreeve/internal/component"
)

//go:wasmexport portreeve:plugin/on-connect@0.1.0#verify
func export(arguments uintptr) uintptr {
	component.Enter()
	verdict, err := Call(connect((*abi.Connect)(unsafe.Pointer(arguments))))
	if err != nil {
		return component.Failed(err)
	}
	switch verdict := verdict.(type) {
	case portreeve.Admission:
		putAdmission(verdict)
	case portreeve.Refusal:
		putRefusal(verdict)
	case portreeve.Challenge:
		answer := component.Area[abi.AnswerList]()
		answer.Kind, answer.List = 2, component.PutBytes(verdict)
	}
	return component.Answered()
}

//go:nosplit
//go:wasmexport cabi_post_portreeve:plugin/on-connect@0.1.0#verify
func end(uintptr) { component.Reset() }

func connect(request *abi.Connect) portreeve.Connect {
	return portreeve.Connect{
		Connection:           connection(&request.Connection),
		ClientID:             component.Text(request.ClientID),
		UserName:             component.OptionText(request.UserName),
		Password:             component.OptionBytes(request.Password),
		CleanStart:           request.CleanStart != 0,
		KeepAlive:            request.KeepAlive,
		AuthenticationMethod: component.OptionText(request.AuthenticationMethod),
		AuthenticationData:   component.OptionBytes(request.AuthenticationData),
		UserProperties:       component.Properties(request.UserProperties),
	}
}

func connection(from *abi.Connection) portreeve.Connection {
	to := portreeve.Connection{
		ID:          from.ID,
		Gateway:     component.Text(from.Gateway),
		PeerAddress: component.Text(from.PeerAddress),
		Protocol:    portreeve.Protocol(from.Protocol),
	}
	if from.TLS.Some == 0 {
		return to
	}
	session := &from.TLS.Value
	to.TLS = &portreeve.TLS{
		Version:     component.Text(session.Version),
		CipherSuite: component.Text(session.CipherSuite),
		ServerName:  component.OptionText(session.ServerName),
	}
	if session.Certificate.Some != 0 {
		to.TLS.Certificate = certificate(&session.Certificate.Value)
	}
	return to
}

func certificate(from *abi.Certificate) *portreeve.Certificate {
	return &portreeve.Certificate{
		Subject:        component.Text(from.Subject),
		CommonName:     component.OptionText(from.CommonName),
		DNSNames:       component.Each(from.DNSNames, component.Text),
		URIs:           component.Each(from.URIs, component.Text),
		EmailAddresses: component.Each(from.EmailAddresses, component.Text),
		Issuer:         component.Text(from.Issuer),
		SerialNumber:   component.Text(from.SerialNumber),
		NotBefore:      from.NotBefore,
		NotAfter:       from.NotAfter,
		Fingerprint:    component.Text(from.Fingerprint),
		Revocation:     portreeve.Revocation(from.Revocation),
		DER:            component.Bytes(from.DER),
		Chain:          component.Each(from.Chain, component.Bytes),
	}
}

func putAdmission(admission portreeve.Admission) {
	answer := component.Area[abi.AnswerAdmission]()
	answer.Admission = abi.Admission{
		DeviceName:         component.PutText(admission.DeviceName),
		Product:            component.PutTextIfAny(admission.Product),
		Attributes:         component.PutProperties(admission.Attributes),
		ExpiresIn:          component.PutIfAny(admission.ExpiresIn),
		CacheFor:           component.PutIfAny(admission.CacheFor),
		AuthenticationData: component.PutOptionBytes(admission.AuthenticationData),
	}
	if admission.Permissions != nil {
		list := component.PutEach(*admission.Permissions, putPermission)
		answer.Admission.Permissions = abi.OptionList{Some: 1, Value: list}
	}
}

func putPermission(permission portreeve.Permission) abi.Permission {
	return abi.Permission{
		Action: component.PutEnum(
			uint8(permission.Action), uint8(portreeve.PublishAndSubscribe), "Action",
		),
		TopicFilter: component.PutText(permission.TopicFilter),
	}
}

func putRefusal(refusal portreeve.Refusal) {
	answer := component.Area[abi.AnswerRefusal]()
	answer.Kind = 1
	answer.Refusal = abi.Refusal{
		Reason: component.PutEnum(
			uint8(refusal.Reason), uint8(portreeve.UseAnotherServer), "RefusalReason",
		),
		Message:         component.PutText(refusal.Message),
		ServerReference: component.PutTextIfAny(refusal.ServerReference),
	}
}
