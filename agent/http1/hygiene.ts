/**
 * Owns which field lines may pass: hop-by-hop ones never do (RFC 9110 §7.6.1), identity and
 * forwarding ones only where the mesh itself has set them. Pure tables; one look-up a field.
 */

/** Which message a field stands in, and who sent it. */
export type Origin = 'caller-request' | 'peer-request' | 'service-response' | 'peer-response'

const bits: Readonly<Record<Origin, number>> = {
  'caller-request': 1,
  'peer-request': 2,
  'service-response': 4,
  'peer-response': 8,
}
const anywhere = 15
const responses = bits['service-response'] | bits['peer-response']

/** Ends at this hop: the mesh frames and connects anew. */
const hop = 0
/** Says on what way a request came: believed of peer agents alone. */
const forwarding = responses | bits['peer-request']
/** Says who the caller is, or by which name its request is told from others: set by each agent. */
const identity = responses

const rules = new Map<string, number>([
  // Written anew from the authority.
  ['host', responses],
  ['connection', hop],
  ['keep-alive', hop],
  ['proxy-connection', hop],
  ['proxy-authenticate', hop],
  ['proxy-authorization', hop],
  ['te', hop],
  ['trailer', hop],
  ['transfer-encoding', hop],
  ['upgrade', hop],
  ['content-length', hop],
  ['http2-settings', hop],
  ['forwarded', forwarding],
  ['x-forwarded-for', forwarding],
  ['x-forwarded-proto', forwarding],
  ['x-forwarded-host', forwarding],
  ['x-forwarded-port', forwarding],
  ['x-real-ip', forwarding],
  ['x-forwarded-client-cert', identity],
  ['x-request-id', identity],
  // The reason of a refusal; of the other x-mesh-* fields none passes.
  ['x-mesh-reason', bits['peer-response']],
])

/**
 * Where a field may go on, for `passes`. `_` counts as `-`, because many services cannot tell them
 * apart.
 * @param name in lower case
 */
export function verdictOn(name: string): number {
  const plain = plainly(name)
  const rule = rules.get(plain)
  if (rule === undefined) return plain.startsWith('x-mesh-') ? 0 : anywhere
  if (plain === name) return rule
  return plain.startsWith('x-mesh-') ? 0 : rule & responses
}

/** Whether a field with that verdict goes on in a message of that origin. */
export function passes(verdict: number, origin: Origin): boolean {
  return (verdict & bits[origin]) !== 0
}

/** Whether a trailer may go on: nothing that frames, routes, authenticates or identifies. */
export function trailerPasses(name: string): boolean {
  return passes(verdictOn(name), 'caller-request') && !forbiddenTrailers.has(plainly(name))
}

function plainly(name: string): string {
  return name.includes('_') ? name.replaceAll('_', '-') : name
}

const forbiddenTrailers: ReadonlySet<string> = new Set([
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
