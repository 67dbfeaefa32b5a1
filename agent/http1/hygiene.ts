/**
 * Owns which field lines may pass: hop-by-hop ones never do (RFC 9110 §7.6.1), identity and
 * forwarding ones only where the mesh itself has set them. Pure tables; one look-up a field.
 */

/** How far a field may go. */
type Rule =
  /** Ends at this hop; the mesh frames and connects anew. */
  | 'hop'
  /** Says who called and on what way: believed only from a peer agent. */
  | 'forwarding'
  /** Says who the caller is: set by the callee's agent alone. */
  | 'identity'

const rules = new Map<string, Rule>([
  ['connection', 'hop'],
  ['keep-alive', 'hop'],
  ['proxy-connection', 'hop'],
  ['proxy-authenticate', 'hop'],
  ['proxy-authorization', 'hop'],
  ['te', 'hop'],
  ['trailer', 'hop'],
  ['transfer-encoding', 'hop'],
  ['upgrade', 'hop'],
  ['content-length', 'hop'],
  ['http2-settings', 'hop'],
  ['forwarded', 'forwarding'],
  ['x-forwarded-for', 'forwarding'],
  ['x-forwarded-proto', 'forwarding'],
  ['x-forwarded-host', 'forwarding'],
  ['x-forwarded-port', 'forwarding'],
  ['x-forwarded-client-cert', 'identity'],
  ['x-real-ip', 'forwarding'],
  ['x-request-id', 'forwarding'],
])

/** Where a message comes from. */
export type Origin = 'caller' | 'peer-agent' | 'service'

/**
 * Whether a field line goes on. `_` counts as `-`, because many services cannot tell them apart.
 * `x-mesh-*` from a peer agent is dropped too, but for the reason of a refusal.
 * @param name in lower case
 */
export function passes(name: string, origin: Origin): boolean {
  const plain = name.includes('_') ? name.replaceAll('_', '-') : name
  if (plain.startsWith('x-mesh-')) return origin === 'peer-agent' && plain === 'x-mesh-reason'
  const rule = rules.get(plain)
  if (rule === undefined) return true
  switch (rule) {
    case 'hop':
      return false
    case 'identity':
      return origin === 'service'
    case 'forwarding':
      return origin === 'service' || (origin === 'peer-agent' && plain === name)
  }
}

/** Whether a trailer may go on: nothing that frames, routes, authenticates or identifies. */
export function trailerPasses(name: string): boolean {
  return passes(name, 'caller') && !forbiddenTrailers.has(name)
}

const forbiddenTrailers: ReadonlySet<string> = new Set([
  'host',
  'authorization',
  'cookie',
  'set-cookie',
  'content-encoding',
  'content-type',
  'content-range',
  'cache-control',
  'expect',
  'max-forwards',
  'range',
  'age',
  'expires',
  'date',
  'location',
  'retry-after',
  'vary',
  'www-authenticate',
])
