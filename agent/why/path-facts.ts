/**
 * Owns the steps of a path that need nobody to be asked: what this agent knows of itself, of the
 * caller, of the service and of the way in. Pure.
 */

import type { CaptureReport } from '#shared/model/admin-capture.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { AgentFacts } from '#shared/model/admin.ts'
import { counted } from '#shared/model/counted.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { WhyStep } from '#shared/model/why.ts'
import { nearName } from './near-name.ts'
import type { Question } from './question.ts'
import { targetView, type TargetReport } from './target-view.ts'

/** What the agent knows. */
export interface PathFacts extends Omit<AgentFacts, 'policies' | 'machine'> {
  /** Why a local service is not offered to others; empty where it is. */
  readonly withheld: (service: ServiceName) => string
}

type Finding = Omit<WhyStep, 'name'>

const ok = (finding: string): Finding => ({ verdict: 'ok', finding, cause: '', fix: '' })
const bad =
  (verdict: 'warning' | 'failed') =>
  (finding: string, cause: string, fix: string): Finding => ({ verdict, finding, cause, fix })
const failed = bad('failed')
const warning = bad('warning')

/** The steps, in the order of the path. The walk can go on while none of them failed. */
export function pathFacts(facts: PathFacts, question: Question): readonly WhyStep[] {
  const { service } = question.target
  const manifest = facts.manifests.find((one) => isAbout(one, service))
  const view = targetView(facts.services, question.target)
  return [
    { name: 'agent', ...agent(facts) },
    ...(manifest === undefined ? [] : [{ name: 'manifest', ...local(facts, manifest) }]),
    { name: 'service', ...known(facts, question, view, manifest) },
    { name: 'caller', ...caller(facts, question) },
    ...(view === null ? [] : [{ name: 'way in', ...wayIn(facts, view, question) }]),
  ]
}

function isAbout({ service, file }: ManifestReport, name: string): boolean {
  return service === '' ? file.endsWith(`${name}.json`) : service === name
}

function agent({ status }: PathFacts): Finding {
  if (!status.ready) {
    const cause = `it waits for ${status.waitsFor}`
    return failed('this host’s agent is not ready', cause, 'meshctl check')
  }
  const { snapshot } = status
  return ok(
    `ready; knows ${counted(snapshot.services, 'service')} at revision ${snapshot.revision} (${snapshot.source})`,
  )
}

/** This host has a file for the service: is it in force? */
function local(facts: PathFacts, manifest: ManifestReport): Finding {
  const { file, service, verdict, problems, health, healthDetail, rotation } = manifest
  if (verdict === 'rejected') {
    const finding = `${file} is rejected${service === '' ? '' : '; its last good version is in force'}`
    return (service === '' ? failed : warning)(
      finding,
      problems[0] ?? '',
      'correct the file; meshctl manifest status shows every problem',
    )
  }
  if (health === 'none') return ok(`${file} puts no instance of it into the mesh`)
  if (health === 'failing') {
    const fix = `is ${service} running, and does it answer its check?`
    return warning(`${file}: its health check fails here`, healthDetail, fix)
  }
  if (rotation !== 'in') {
    const fix = `meshctl undrain ${service}`
    return warning(`${file}: taken out of rotation here`, 'an operator has drained it', fix)
  }
  const withheld = facts.withheld(service as ServiceName)
  return withheld === ''
    ? ok(`${file} is in force and offered to the mesh`)
    : warning(
        `${file}: not offered to the mesh`,
        withheld,
        'meshctl manifest status; meshctl check',
      )
}

function known(
  { status, services, external }: PathFacts,
  { target: { service, portName } }: Question,
  view: TargetReport | null,
  manifest: ManifestReport | undefined,
): Finding {
  if (view !== null && view.outside === true && view.instances.length > 0) {
    return ok(
      `${view.protocol}, outside the mesh at ${counted(view.instances.length, 'address', 'addresses')}`,
    )
  }
  if (view !== null && view.instances.length > 0) {
    const hosts = new Set(view.instances.map(({ host }) => host)).size
    const count = counted(view.instances.length, 'instance')
    return ok(`${view.protocol}, ${count} on ${counted(hosts, 'host')}`)
  }
  const named = services.find(({ name }) => name === service)
  if (portName !== null && named !== undefined && named.instances.length > 0) {
    const others = named.ports.map(({ name }) => name).join(', ') || 'none with a name'
    return failed(
      `no instance of ${service} has its port ${portName} open`,
      `its ports: ${others}`,
      'a check with "portName" decides about one port alone; meshctl manifest status on its host',
    )
  }
  const outside = external.find((one) => one.service === service)
  if (outside !== undefined) {
    const cause = outside.problems.join('; ') || 'its names are still looked up'
    return failed(`${service} is at no address now`, cause, `meshctl external ${service}`)
  }
  const finding = `no instance of ${service} is in rotation`
  if (manifest !== undefined) {
    return failed(
      finding,
      'the one of this host is not offered, and no other host has one',
      'see the step before',
    )
  }
  // A service without instances may be known by its name.
  const others = services.map(({ name }) => name).filter((name) => name !== service)
  const near = named === undefined ? nearName(service, others) : null
  if (near !== null) return failed(finding, `there is a service ${near}`, `did you mean ${near}?`)
  const there = `drop a manifest on a host that serves it; there, ask: meshctl why ${service}`
  return status.store.kind === 'down'
    ? failed(
        finding,
        `the store is away (${status.store.reason}), so what is new is not known here`,
        'meshctl check',
      )
    : failed(
        finding,
        'no host offers one: none was dropped, or all fail their checks or are drained',
        there,
      )
}

function caller({ status, certificates, manifests }: PathFacts, { caller: by }: Question): Finding {
  const path = by === null ? `/host/${status.host}` : `/service/${by}`
  if (by !== null && !manifests.some(({ service }) => service === by)) {
    const fix = 'ask on the host where it runs, or without --as'
    return failed(`${by} is no service of this host`, 'only services of a host call from it', fix)
  }
  const held = certificates.find(({ identity }) => identity.endsWith(path))
  if (held === undefined || held.notAfterMs <= status.nowMs) {
    const finding = `no valid certificate for ${held?.identity ?? path.slice(1)}`
    if (by !== null && held === undefined && isNobody(manifests, status.capture, by)) {
      const cause = 'it has neither a port nor a user or unit, so its calls count as the host’s'
      const fix = `ask without --as, or set "run": { "user": "…" } in the manifest of ${by}`
      return failed(finding, cause, fix)
    }
    return failed(finding, held?.problem || 'it was never issued', held?.hint || 'meshctl check')
  }
  const known = status.capture.callers.find(({ service }) => service === by)
  if (by !== null && status.capture.kind === 'on' && known?.user === null && known.unit === null) {
    const fix = `set "run": { "user": "…" } in the manifest of ${by}`
    return warning(`captured calls of ${by} count as the host’s`, known.problem, fix)
  }
  return ok(held.identity)
}

/** Whether a service of this host has nothing by which its calls could be told from others. */
function isNobody(
  manifests: readonly ManifestReport[],
  { callers }: CaptureReport,
  name: string,
): boolean {
  const caller = callers.find(({ service }) => service === name)
  const isKnown = caller !== undefined && (caller.user !== null || caller.unit !== null)
  return !isKnown && manifests.some(({ service, health }) => service === name && health === 'none')
}

/** How a program on this host gets its bytes into the mesh. */
function wayIn({ status }: PathFacts, view: TargetReport, { caller: by }: Question): Finding {
  const { capture, workers } = status
  const [address] = view.addresses
  if (address !== undefined) return ok(`${view.name}.mesh is captured at ${address}`)
  const listeners = (workers[0]?.listeners ?? []).filter(({ name }) =>
    name.startsWith(`${view.name} (`),
  )
  const shut = listeners.find(({ problem }) => problem !== '')
  if (shut !== undefined) {
    const where = `${shut.address}:${shut.port}`
    return failed(
      `the listener at ${where} is not open`,
      shut.problem,
      `ss -ltnp 'sport = :${shut.port}'`,
    )
  }
  const [open] = listeners
  if (open !== undefined) return ok(`the listener at ${open.address}:${open.port} leads to it`)
  const proxy = workers[0]?.listeners.find(({ name }) => name === 'forward proxy')
  const off = capture.kind === 'on' ? '' : ` (capture is ${capture.kind}: ${capture.reason})`
  if (view.protocol === 'http' && proxy !== undefined) {
    return ok(`only http_proxy=http://${proxy.address}:${proxy.port}${off}`)
  }
  const fix = `add "upstreams": { "${view.name}": PORT } to the manifest of ${by ?? 'the caller'}`
  return failed(
    `no way in from this host${off}`,
    'it is not HTTP, and no listener leads to it',
    fix,
  )
}
