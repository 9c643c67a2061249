package jwt

// Failure is why a token is refused. Callers compare it by pointer.
type Failure struct {
	// Text is Envoy's (jwt_verify_lib, status.cc): it is the answer's body.
	Text string
	// Status of the answer.
	Status int
}

func (f *Failure) Error() string { return f.Text }

// The failures.
var (
	ErrForm            = &Failure{"Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", 401}
	ErrHeaderEncoding  = &Failure{"Jwt header is an invalid Base64url encoded", 401}
	ErrHeaderJSON      = &Failure{"Jwt header is an invalid JSON", 401}
	ErrHeaderAlg       = &Failure{"Jwt header [alg] field is required and must be a string", 401}
	ErrAlg             = &Failure{"Jwt header [alg] is not supported", 401}
	ErrPayloadEncoding = &Failure{"Jwt payload is an invalid Base64url encoded", 401}
	ErrPayloadJSON     = &Failure{"Jwt payload is an invalid JSON", 401}
	ErrPayloadField    = &Failure{"Jwt payload [iss], [sub], [aud], [exp] or [nbf] field has the wrong type", 401}
	ErrSignatureForm   = &Failure{"Jwt signature is an invalid Base64url encoded", 401}
	ErrIssuer          = &Failure{"Jwt issuer is not configured", 401}
	ErrNotYetValid     = &Failure{"Jwt not yet valid", 401}
	ErrExpired         = &Failure{"Jwt is expired", 401}
	ErrAudience        = &Failure{"Audiences in Jwt are not allowed", 403}
	ErrNoKey           = &Failure{"Jwks doesn't have key to match kid or alg from Jwt", 401}
	ErrVerification    = &Failure{"Jwt verification fails", 401}
	ErrKeysUnavailable = &Failure{"Jwks remote fetch is failed", 401}
)
