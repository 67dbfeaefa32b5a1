/**
 * Owns the answer to `meshctl capture explain`: reads the question, finds what becomes of the
 * connection, and says it in words of the mesh.
 */

import { BlockList, isIP } from 'node:net'
import { isLocalAddress } from '#shared/http/local-address.ts'
import type { CaptureExplanation } from '#shared/model/admin-capture.ts'
import { parseInterceptTarget } from '#shared/schema/manifest-capture.ts'
import { unknownCaller } from './caller-ports.ts'
import { virtualRange4, type Endpoint, type TableShape } from './capture-state.ts'
import type { Elements } from './elements.ts'
import { exemptionsOf } from './exemptions.ts'
import { fateOf } from './fate.ts'
import type { Plan } from './plan.ts'
import { unitGroups, unitUser } from './units.ts'
import { userNumber } from './users.ts'

/** What an answer is made of. */
export interface ExplainFacts {
  /** Null while no rules of ours stand. */
  readonly table: { readonly standing: Elements; readonly shape: TableShape } | null
  readonly plan: Plan | null
  /** The caller's index that a port of callers is for. */
  readonly indexOf: (port: number) => number
}

/** Answers `to` (an address or a name of the mesh, with a port) for `user` (a name or number) or `unit`. */
export async function explainCapture(
  query: URLSearchParams,
  { table, plan, indexOf }: ExplainFacts,
): Promise<CaptureExplanation> {
  const target = parseInterceptTarget(query.get('to') ?? '')
  const unit = query.get('unit') ?? ''
  const group = (await unitGroups(new Set([unit]))).get(unit)?.path ?? ''
  if (unit !== '' && group === '') return bad(`no unit ${unit} runs on this host`)
  const asked = query.get('user') ?? (unit === '' ? '0' : null)
  const user = asked === null ? (await unitUser(unit)).user : await userNumber(asked)
  if (target === null) return bad('name an address and a port, such as 10.0.0.5:5432')
  if (user === null) return bad(`this host has no user ${asked ?? `that ${unit} runs as`}`)
  const { host, isName, port } = target
  const address = isName ? plan?.names.get(host.replace(/\.mesh$/, ''))?.ipv4 : host
  if (address === undefined || (isName && !host.endsWith('.mesh'))) {
    return bad(`${host} is no name of the mesh that is known here; name an address`)
  }
  if (table === null || plan === null) {
    return {
      kind: 'direct',
      why: 'no rules of the mesh stand on this host: meshctl capture status',
    }
  }
  const fate = fateOf(
    { address, port, user, unit: group },
    {
      ...table,
      isLocal: isLocalAddress,
      isVirtual: (one) => ranges(table.shape).check(one, familyOf(one)),
      isLeftAlone: (at) => isLeftAlone(table.shape, at),
    },
  )
  if (fate.kind !== 'captured') return fate
  const index = indexOf(fate.port)
  const caller = plan.callers.find((one) => one.index === index && index !== unknownCaller)
  return {
    kind: 'captured',
    service: plan.view.services[fate.virtual] ?? fate.virtual,
    caller: caller?.service ?? null,
    port: fate.port,
  }
}

function isLeftAlone({ confines }: TableShape, { address, port }: Endpoint): boolean {
  if (confines === undefined) return true
  const exempt = exemptionsOf(confines, [53])
  return exempt.ports.has(port) || exempt.hasAddress(address)
}

function bad(problem: string): CaptureExplanation {
  return { kind: 'bad-question', problem }
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}

function ranges({ virtualRange6 }: TableShape): BlockList {
  const list = new BlockList()
  for (const range of [virtualRange4, ...(virtualRange6 === null ? [] : [virtualRange6])]) {
    const [address = '', length] = range.split('/')
    list.addSubnet(address, Number(length), familyOf(address))
  }
  return list
}
