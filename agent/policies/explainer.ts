/**
 * Owns the answer to `meshctl authz explain`: reads the question, finds the service among those of
 * this host, and has policy explain itself. Another host's service is that host's to explain.
 */

import type { AuthzAnswer } from '#shared/model/admin-policies.ts'
import type { Parsed, Port, ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import type { NamedPort, Protocol } from '#shared/model/records.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import { externalId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { parseTarget, targetName, type TargetName } from '#shared/model/target.ts'
import { CompiledPolicy } from '#shared/policy/compiled-policy.ts'
import { explain } from '#shared/policy/explain.ts'
import { absolutePattern, parseIdentityPattern } from '#shared/policy/identity-pattern.ts'
import { queryOf, readRequestPath } from '#shared/route/request-path.ts'

/** A service that this host judges calls of: one of its own, or one outside the mesh. */
export interface JudgedHere {
  readonly service: ServiceName
  /** Its name stands for what is outside the mesh. @default it is a service of this host */
  readonly isOutside?: boolean
  readonly port: Port
  readonly protocol: Protocol
  readonly ports?: readonly NamedPort[]
}

/** What an explainer asks. */
export interface ExplainerParts {
  /** Null until the host has enrolled. */
  readonly trustDomain: () => TrustDomain | null
  readonly local: () => readonly JudgedHere[]
  readonly policyOf: (service: ServiceName) => ServicePolicy
  /** The hosts that have instances of a service. */
  readonly hostsOf: (service: ServiceName) => readonly string[]
  /** Whether a host goes by a name. */
  readonly isHost: (name: string) => boolean
}

/** How a question names a caller that proves nothing. */
const nobody = '-'

/** See the header. */
export class Explainer {
  readonly #parts: ExplainerParts

  constructor(parts: ExplainerParts) {
    this.#parts = parts
  }

  /** Answers `source`, `service`, and perhaps `method`, `path`, `host` and some `header`. */
  answer(query: URLSearchParams): AuthzAnswer {
    const { trustDomain, local, policyOf, hostsOf } = this.#parts
    const domain = trustDomain()
    if (domain === null) return badQuestion('this host has not enrolled, so it has no identities')
    const source = readSource(query.get('source') ?? '', domain)
    if (!source.ok) return badQuestion(source.problem)
    const target = parseTarget(query.get('service') ?? '')
    if (!target.ok) return badQuestion(target.problem)
    const { service, portName } = target.value
    const instance = local().find((one) => one.service === service)
    if (instance === undefined) return { kind: 'elsewhere', service, hosts: hostsOf(service) }
    const place =
      portName === null ? instance : instance.ports?.find(({ name }) => name === portName)
    if (place === undefined) return badQuestion(`${service} has no port called ${portName}`)
    const request = readRequest(query, targetName(service, portName))
    if (!request.ok) return badQuestion(request.problem)
    const destination = (instance.isOutside === true ? externalId : serviceId)(domain, service)
    const policy = new CompiledPolicy(policyOf(service), { trustDomain: domain, destination })
    const { port, protocol } = place
    const call = { source: source.value, destination, port, http: protocol === 'http' }
    return {
      kind: 'explained',
      source: source.value ?? '',
      doubt: this.#doubtOf(query.get('source') ?? ''),
      destination,
      port,
      protocol,
      path: request.value?.path.text ?? '',
      ...explain(policy, call, call.http ? request.value : null),
    }
  }

  /** A bare name is a service's; who has a host in mind is not understood. */
  #doubtOf(source: string): string {
    const { hostsOf, isHost, local } = this.#parts
    const isKnown =
      local().some(({ service }) => service === source) || hostsOf(source as ServiceName).length > 0
    return isHost(source) && !isKnown
      ? `"${source}" was read as service/${source}, of which no instance is known; the host of that name is host/${source}`
      : ''
  }
}

function readSource(text: string, trustDomain: TrustDomain): Parsed<SpiffeId | null> {
  if (text === nobody) return { ok: true, value: null }
  const pattern = parseIdentityPattern(text)
  if (!pattern.ok) return pattern
  if (pattern.value.kind === 'prefix') {
    return { ok: false, problem: 'the source must be one identity, without a *' }
  }
  return { ok: true, value: absolutePattern(pattern.value, trustDomain).text as SpiffeId }
}

/** The request asked about; null where none is. */
function readRequest(query: URLSearchParams, target: TargetName): Parsed<RequestFacts | null> {
  const method = query.get('method') ?? ''
  if (method === '') return { ok: true, value: null }
  const path = query.get('path') ?? '/'
  const lines = query.getAll('header').map((line) => line.split('=', 2))
  if (lines.some(({ length }) => length < 2)) {
    return { ok: false, problem: 'a header is asked about as name=value' }
  }
  return {
    ok: true,
    value: {
      method,
      path: readRequestPath(path),
      query: queryOf(path),
      pathOverride: '',
      methodOverride: '',
      host: query.get('host') ?? `${target}.mesh`,
      lines: lines.map(([name = '', value = '']) => [name.toLowerCase(), value] as const),
      nominated: null,
    },
  }
}

function badQuestion(problem: string): AuthzAnswer {
  return { kind: 'bad-question', problem }
}
