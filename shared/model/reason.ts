/**
 * Owns the closed set of reasons why a request or connection ended as it did. They appear in the
 * access line, the `reason` label, the `x-mesh-reason` header and the docs, spelt the same.
 */

/** `ok` is a request the mesh did not interfere with, whatever its status. */
export type Reason =
  | 'ok'
  // the caller's fault
  | 'bad-request' // not strict HTTP/1.1
  | 'head-too-large'
  | 'head-timeout'
  | 'body-timeout'
  | 'method-refused' // CONNECT, TRACE
  | 'upgrade-refused'
  | 'ambiguous-request' // a rule depends on how path, method, host or a field is read
  | 'not-http' // bytes that are not HTTP sent to an HTTP service
  | 'caller-aborted'
  // the mesh's
  | 'unknown-service'
  | 'not-discovered' // it is not in use here, and could not be looked for
  | 'not-mesh-name' // forward proxy asked for something outside the mesh, or a service outside for a name it has not
  | 'no-instances'
  | 'policy-denied'
  | 'no-credential' // this side's certificate is missing or expired
  | 'tunnel-failed' // far agent could not be reached
  | 'tunnel-refused-identity' // peer proved to be somebody else
  | 'draining'
  | 'overloaded'
  | 'tunnel-lost' // tunnel or stream died under way
  // the service's
  | 'instance-refused' // local instance refused or timed out on connect
  | 'instance-aborted' // closed before a whole response
  | 'instance-aborted-twice' // the same, and once more when the request was repeated
  | 'bad-response' // response was not strict HTTP/1.1
  | 'response-timeout'
  | 'external-failed' // a service outside took no connection, or did not prove to be the one named

/** Which side of the proxied exchange a reason accuses. */
export type Blame = 'none' | 'caller' | 'mesh' | 'service'
