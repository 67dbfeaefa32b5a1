/**
 * Owns the checks of `meshctl check`: pure judgements of an agent's facts, each with what was found,
 * the likely cause and what to do. Names are stable; `docs/checks.md` has a section for each.
 */

import { captureChecks } from './capture-checks.ts'
import { newToken, remedyOf } from './certificate-remedies.ts'
import { ago, bad, duration, list, ok, skipped, type Check, type Judgement } from './judgement.ts'
import { machineChecks } from './machine-checks.ts'
import { manifestChecks } from './manifest-checks.ts'
import { workerChecks } from './worker-checks.ts'
import { counted } from '#shared/model/counted.ts'
import type { AgentFacts, CertificateReport, CheckReport, Contact } from '#shared/model/admin.ts'

/** Certificates begin this much before they are made, for clocks that are behind. */
const backdatedMs = 60_000
/** What workers call the listener of the forward proxy. */
const forwardProxy = 'forward proxy'

function contact(
  facts: AgentFacts,
  what: string,
  state: Contact,
  verdict: 'warning' | 'failed',
  fix: string,
): Judgement {
  switch (state.kind) {
    case 'up':
      return ok(
        state.atMs === undefined
          ? `${what} answers`
          : `${what} answered ${ago(facts, state.atMs)} ago`,
      )
    case 'unknown':
      return skipped(`${what} has not been asked yet`)
    case 'down':
      return bad(verdict, `${what}: away for ${ago(facts, state.sinceMs)}`, state.reason, fix)
  }
}

function listeners(facts: AgentFacts, wanted: (name: string) => boolean): Judgement {
  const all = facts.status.workers.flatMap((worker) => worker.listeners)
  // Workers open the same ports; one that a single worker could not open is not open.
  const byPort = Map.groupBy(
    all.filter((listener) => wanted(listener.name)),
    ({ name, address, port }) => `${name} ${address} ${port}`,
  )
  const mine = [...byPort.values()].flatMap(
    (same) => same.find(({ problem }) => problem !== '') ?? same.slice(0, 1),
  )
  const closed = mine.filter((listener) => listener.problem !== '')
  if (facts.status.workers.length === 0) return skipped('no worker is connected')
  if (closed.length === 0) return ok(`${mine.length} open`)
  const words = closed.map(
    ({ name, address, port, problem }) => `${name} at ${address}:${port}: ${problem}`,
  )
  return bad(
    'failed',
    `${closed.length} of ${mine.length} not open`,
    list(words),
    'free the port (ss -ltnp shows its owner) or change it; the agent tries again by itself',
  )
}

function remedies(facts: AgentFacts, some: readonly CertificateReport[]): string {
  return list([...new Set(some.map((one) => remedyOf(facts.status.host, one)))])
}

function expiry(facts: AgentFacts, kind: 'host' | 'service'): Judgement {
  const mine = facts.certificates.filter(({ identity }) => identity.includes(`/${kind}/`))
  if (mine.length === 0) return skipped(`this host holds no ${kind} certificate`)
  const { nowMs } = facts.status
  const gone = mine.filter(({ notAfterMs }) => notAfterMs <= nowMs)
  // Renewal begins at half life; past three quarters it has failed for a quarter of it.
  const late = mine.filter(
    ({ notBeforeMs, notAfterMs }) =>
      notAfterMs - nowMs < (notAfterMs - notBeforeMs - backdatedMs) / 4,
  )
  const words = (some: typeof mine): string =>
    list(some.map(({ identity, problem }) => `${identity}${problem && `: ${problem}`}`))
  if (gone.length > 0) {
    const finding = `${gone.length} of ${mine.length} missing or expired`
    const isAway = facts.status.controller.contact.kind === 'down'
    const token = `${isAway ? 'see controller-reachable; then ' : ''}${newToken(facts.status.host)}`
    const mend = kind === 'host' ? token : remedies(facts, gone)
    return bad('failed', finding, words(gone), mend)
  }
  if (late.length > 0)
    return bad(
      'warning',
      `${late.length} of ${mine.length} overdue for renewal`,
      words(late),
      remedies(facts, late),
    )
  const next = Math.min(...mine.map(({ notAfterMs }) => notAfterMs)) - nowMs
  return ok(`${mine.length} valid, the first for ${duration(next)}`)
}

const checks: readonly Check[] = [
  {
    name: 'agent-ready',
    judge: ({ status }) =>
      status.ready
        ? ok(`agent ${status.version} on ${status.host} is ready`)
        : bad(
            'failed',
            'the agent is not ready',
            `it waits for ${status.waitsFor}`,
            'the checks below name what is missing',
          ),
  },
  {
    name: 'host-enrolled',
    judge: ({ certificates, status }) => {
      const own = certificates.find(({ identity }) => identity.includes('/host/'))
      return own !== undefined && own.serial !== ''
        ? ok(`this host is ${own.identity}`)
        : bad(
            'failed',
            `host ${status.host} holds no credential`,
            own?.problem || 'it has not enrolled',
            newToken(status.host),
          )
    },
  },
  {
    name: 'host-certificate',
    judge: (facts) => expiry(facts, 'host'),
  },
  {
    name: 'service-certificates',
    judge: (facts) => expiry(facts, 'service'),
  },
  {
    name: 'certificate-renewal',
    judge: (facts) => {
      const { certificates } = facts
      const stuck = certificates.filter(({ problem }) => problem !== '')
      return stuck.length === 0
        ? ok('no certificate was refused')
        : bad(
            'warning',
            `${stuck.length} of ${certificates.length} could not be issued or renewed`,
            list(stuck.map(({ identity, problem }) => `${identity}: ${problem}`)),
            remedies(facts, stuck),
          )
    },
  },
  {
    name: 'clock',
    judge: ({ certificates, status }) => {
      const early = certificates.filter(
        ({ serial, notBeforeMs }) => serial !== '' && notBeforeMs > status.nowMs,
      )
      return early.length === 0
        ? ok('the clock agrees with every certificate')
        : bad(
            'failed',
            `${early.length} certificates begin in the future`,
            'this host’s clock is behind the controller’s',
            'synchronise the clock (timedatectl set-ntp true)',
          )
    },
  },
  {
    name: 'controller-reachable',
    judge: (facts) =>
      contact(
        facts,
        `controller ${facts.status.controller.address}`,
        facts.status.controller.contact,
        'warning',
        'start mesh-controller or open its port; traffic goes on until certificates end',
      ),
  },
  {
    name: 'outage-budget',
    judge: ({ status: { outageBudget, controller } }) => {
      if (outageBudget === null) return skipped('this host has no certificate yet')
      const { ms, endsFirst } = outageBudget
      const away = controller.contact.kind === 'down'
      const fix = 'bring a controller back before then: see controller-reachable'
      if (ms === 0) {
        const finding = `the certificate of ${endsFirst} has ended`
        return bad('failed', finding, 'it was not renewed', 'see certificate-renewal')
      }
      if (!away) return ok(`could go on for ${duration(ms)} with controller and store away`)
      const cause = `the controller is away, and the certificate of ${endsFirst} ends then`
      return bad('warning', `goes on for ${duration(ms)} more`, cause, fix)
    },
  },
  {
    name: 'store-session',
    judge: (facts) =>
      contact(
        facts,
        'the store',
        facts.status.store,
        'warning',
        'bring the store back; the last view stays in use and health checks correct it',
      ),
  },
  {
    name: 'snapshot',
    judge: (facts) => {
      const { source, builtAtMs, revision, services, instances } = facts.status.snapshot
      if (source === 'none')
        return bad(
          'failed',
          'there is no view of the mesh',
          'the store has not been reached since the first start',
          'see store-session',
        )
      const words = `${counted(services, 'service')}, ${counted(instances, 'instance')} at revision ${revision}`
      return source === 'store'
        ? ok(words)
        : bad(
            'warning',
            `${words}, read from disk`,
            `the store has not been reached since this agent started; built ${ago(facts, builtAtMs)} ago`,
            'see store-session',
          )
    },
  },
  {
    name: 'store-records',
    judge: ({ status: { snapshot } }) =>
      snapshot.rejected === 0
        ? ok('every record of the store can be read')
        : bad(
            'warning',
            `${snapshot.rejected} records of the store were rejected`,
            list(snapshot.problems),
            'upgrade what is older, or delete what was put by hand (etcdctl del KEY)',
          ),
  },
  {
    name: 'hosts-kept',
    judge: ({ status: { snapshot } }) =>
      snapshot.hostsKept.length === 0
        ? ok('every host that answers is in the store')
        : bad(
            'warning',
            `${snapshot.hostsKept.length} hosts are kept that the store has lost sight of`,
            `their agents do not reach the store: ${list(snapshot.hostsKept)}`,
            'meshctl check on those hosts: see store-session there',
          ),
  },
  {
    name: 'workers-connected',
    judge: ({ status: { workers, workersWanted } }) => {
      if (workers.length >= workersWanted) return ok(counted(workers.length, 'proxy worker'))
      return bad(
        workers.length === 0 ? 'failed' : 'warning',
        workers.length === 0
          ? 'no proxy worker is connected'
          : `${workers.length} of ${workersWanted} proxy workers are connected`,
        workers.length === 0
          ? 'none was started, or they cannot open the worker socket'
          : 'they have not started yet, or cannot open the worker socket',
        'start mesh-proxy (or the supervisor); its log names the reason',
      )
    },
  },
  {
    name: 'workers-current',
    judge: ({ status: { workers, snapshot } }) => {
      const behind = workers.filter(({ applied }) => applied < snapshot.sequence)
      if (workers.length === 0) return skipped('no worker is connected')
      return behind.length === 0
        ? ok(`all act on snapshot ${snapshot.sequence}`)
        : bad(
            'warning',
            `${behind.length} of ${workers.length} act on an older snapshot`,
            list(behind.map(({ pid, applied }) => `worker ${pid} is at ${applied}`)),
            'run this again; if it stays, restart that worker and report a bug',
          )
    },
  },
  ...workerChecks,
  {
    name: 'tunnel-listener',
    judge: ({ status: { workers: all } }) => {
      // One that was replaced takes none any more, and finishes what it has.
      const workers = all.filter(({ phase }) => phase !== 'retiring')
      const shut = workers.filter(({ tunnelPort }) => tunnelPort === 0)
      if (workers.length === 0) return skipped('no worker is connected')
      return shut.length === 0
        ? ok(
            `tunnels are taken at port ${[...new Set(workers.map((one) => one.tunnelPort))].join()}`,
          )
        : bad(
            'failed',
            `${shut.length} of ${workers.length} workers take no tunnels`,
            'the port of listen.tunnel is taken, or the worker has only just started',
            'free the port (ss -ltnp shows its owner) or change listen.tunnel',
          )
    },
  },
  {
    name: 'forward-proxy-listener',
    judge: (facts) => listeners(facts, (name) => name === forwardProxy),
  },
  {
    name: 'explicit-listeners',
    judge: (facts) => listeners(facts, (name) => name !== forwardProxy),
  },
  {
    name: 'advertised-address',
    judge: ({ status }) =>
      status.snapshot.hosts > 1 && /^(?:0\.0\.0\.0|::1?|127\.0\.0\.1)$/.test(status.address)
        ? bad(
            'warning',
            `other hosts are told to reach this one at ${status.address}`,
            'the address was detected or configured as this host’s own loopback',
            'set "address" in agent.json to an address other hosts can reach',
          )
        : ok(`other hosts reach this one at ${status.address}`),
  },
  ...captureChecks,
  ...manifestChecks,
  {
    name: 'policy-files',
    judge: ({ policies: { directory, files } }) => {
      const rejected = files.filter(({ verdict }) => verdict === 'rejected')
      if (directory.problem !== '')
        return bad(
          'failed',
          `${directory.path}: ${directory.problem}`,
          'what was last known of it stays in force',
          `chown root ${directory.path} && chmod 755 ${directory.path}, or set paths.policies`,
        )
      return rejected.length === 0
        ? ok(`${files.length} accepted from ${directory.path}`)
        : bad(
            'failed',
            `${rejected.length} of ${files.length} rejected`,
            list(rejected.flatMap(({ problems }) => problems)),
            'correct the files; their last good versions stay in force until then',
          )
    },
  },
  {
    name: 'policy-protection',
    judge: ({ policies: { services } }) => {
      const strict = services.filter((service) => service.strict)
      const notes = strict.filter(({ note }) => note !== '')
      const isOpen = notes.some(({ protection }) => protection === 'unprotected')
      if (strict.length === 0) return ok('no service of this host says who may call it')
      return notes.length === 0
        ? ok(`${strict.length} services can only be reached through their policy`)
        : bad(
            isOpen ? 'failed' : 'warning',
            `${notes.length} of ${strict.length} can be reached past their policy`,
            list(notes.map(({ service, note }) => `${service}: ${note}`)),
            isOpen
              ? 'let them listen on 127.0.0.1 only; until then they are not in the mesh'
              : 'keep local users who are not trusted off this host',
          )
    },
  },
  {
    name: 'policy-rules',
    judge: ({ policies: { services } }) => {
      const idle = services.flatMap((service) => service.idle)
      const audited = services.filter(({ audit }) => audit).map(({ service }) => service)
      const words = audited.length === 0 ? '' : `; in audit mode: ${list(audited)}`
      return idle.length === 0
        ? ok(`every rule can do what it says${words}`)
        : bad(
            'warning',
            `${idle.length} rules do not do what they say`,
            list(idle),
            'correct them; "meshctl authz explain" shows what a rule says of a call',
          )
    },
  },
  ...machineChecks,
]

/** The names of all checks of the agent, in the order they are shown. */
export const checkNames: readonly string[] = checks.map(({ name }) => name)

/** Judges an agent's facts; one report per check, always in the same order. */
export function judge(facts: AgentFacts): readonly CheckReport[] {
  return checks.map((check) => ({ name: check.name, ...check.judge(facts) }))
}
