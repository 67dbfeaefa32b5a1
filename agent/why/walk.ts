/**
 * Owns the answer to `meshctl why`: walks the path of a call from this host step by step, tries every
 * instance for real, and names the first step that fails. It changes nothing, and sends a request
 * only where it was asked to.
 */

import type { Channel, Clock } from '#agent/platform.ts'
import type { AuthzAnswer } from '#shared/model/admin-policies.ts'
import type { InstanceReport } from '#shared/model/admin-services.ts'
import { parseHostName, type ServiceName, type TrustDomain } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import { hostId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { targetName } from '#shared/model/target.ts'
import type { WhyAnswer, WhyStep } from '#shared/model/why.ts'
import { askHttp } from './ask-http.ts'
import { pathFacts, type PathFacts } from './path-facts.ts'
import { readQuestion, type Question } from './question.ts'
import { remedyOf } from './remedies.ts'
import { targetView } from './target-view.ts'

/** How a path to one instance opened. */
export type Opened =
  | {
      readonly kind: 'open'
      readonly channel: Channel
      readonly way: string
      /** What it knows itself by; empty: by its name in the mesh. */
      readonly authority: string
    }
  | { readonly kind: 'refused'; readonly reason: Reason; readonly detail: string }

/** Paths to instances, as the data path would take them. */
export interface Paths {
  /** Opens one as `caller`; never rejects, and answers within a few seconds. */
  open(caller: SpiffeId, question: Question, instance: InstanceReport): Promise<Opened>
  close(): void
}

/** What a walk leans on. */
export interface WalkParts {
  readonly clock: Pick<Clock, 'after' | 'elapsed'>
  readonly facts: () => PathFacts
  /** Null until the host has enrolled. */
  readonly trustDomain: () => TrustDomain | null
  readonly explain: (query: URLSearchParams) => AuthzAnswer
  /** Looks for the service where not all are followed; null where all are. @default all are */
  readonly discover?: (service: ServiceName) => Promise<WhyStep | null>
  /** Null until the host knows its mesh. */
  readonly paths: () => Promise<Paths | null>
}

/** What became of the question. */
export type WalkAnswer =
  | { readonly kind: 'done'; readonly value: WhyAnswer }
  | {
      readonly kind: 'refused'
      readonly code: string
      readonly problem: string
      readonly hint: string
    }

/** Most instances that are tried. */
const mostTries = 16

/** Takes a `WhyQuestion` as it was posted. */
export async function walk(parts: WalkParts, input: unknown): Promise<WalkAnswer> {
  const question = readQuestion(input)
  if (!question.ok) {
    return { kind: 'refused', code: 'bad-input', problem: question.problem, hint: '' }
  }
  const discovered = (await parts.discover?.(question.value.target.service)) ?? null
  const facts = parts.facts()
  const steps = [...(discovered === null ? [] : [discovered]), ...pathFacts(facts, question.value)]
  const domain = parts.trustDomain()
  const caller = domain === null ? null : callerOf(domain, facts.status.host, question.value)
  const mayTry = !steps.some(({ verdict }) => verdict === 'failed')
  const tried = caller !== null && mayTry ? await tryAll(parts, facts, caller, question.value) : []
  return {
    kind: 'done',
    value: {
      service: nameOf(question.value),
      caller: caller ?? '',
      ...judged([...steps, ...tried]),
    },
  }
}

/** What some instances cannot do is no more than a warning while others can. */
function judged(steps: readonly WhyStep[]): Pick<WhyAnswer, 'verdict' | 'steps'> {
  const isBroken = steps.some(({ verdict }) => verdict === 'failed')
  const isPartly = steps.some(
    ({ name, verdict }) => name.startsWith('instance ') && verdict === 'warning',
  )
  return { verdict: isBroken ? 'broken' : isPartly ? 'partly' : 'works', steps }
}

function callerOf(domain: TrustDomain, host: string, { caller }: Question): SpiffeId | null {
  if (caller !== null) return serviceId(domain, caller)
  const name = parseHostName(host)
  return name.ok ? hostId(domain, name.value) : null
}

async function tryAll(
  parts: WalkParts,
  { services }: PathFacts,
  caller: SpiffeId,
  question: Question,
): Promise<readonly WhyStep[]> {
  const view = targetView(services, question.target)
  const instances = view?.instances ?? []
  const isHttp = view?.protocol === 'http'
  const paths = await parts.paths()
  if (paths === null) return []
  try {
    const tries = await Promise.all(
      instances.slice(0, mostTries).map(async (instance) => {
        const denied = instance.local ? judgedHere(parts, caller, question) : null
        return denied === null
          ? tryOne(parts, paths, caller, question, instance)
          : { instance, step: stepOf(instance, denied), channel: null, authority: '' }
      }),
    )
    const [works] = tries.filter(({ channel }) => channel !== null)
    for (const { channel } of tries) if (channel !== works?.channel) channel?.abort()
    const steps = tries.map(({ step }) =>
      works !== undefined && step.verdict === 'failed'
        ? { ...step, verdict: 'warning' as const }
        : step,
    )
    const rest = instances.length - tries.length
    const more = rest > 0 ? [skipped('others', `${rest} more instances were not tried`)] : []
    const asked =
      works?.channel === null || works === undefined
        ? []
        : [await requested(parts, { ...works, channel: works.channel }, question, isHttp)]
    return [...steps, ...more, ...asked]
  } finally {
    paths.close()
  }
}

interface Try {
  readonly instance: InstanceReport
  readonly step: WhyStep
  /** Open, or null. */
  readonly channel: Channel | null
  readonly authority: string
}

async function tryOne(
  { clock }: WalkParts,
  paths: Paths,
  caller: SpiffeId,
  question: Question,
  instance: InstanceReport,
): Promise<Try> {
  const began = clock.elapsed()
  const opened = await paths.open(caller, question, instance)
  const tookMs = Math.max(1, Math.round(clock.elapsed() - began))
  switch (opened.kind) {
    case 'open': {
      const finding = `takes connections (${opened.way}, ${tookMs} ms)`
      const step = stepOf(instance, { verdict: 'ok', finding, cause: '', fix: '' })
      return { instance, step, channel: opened.channel, authority: opened.authority }
    }
    case 'refused': {
      const { reason, detail } = opened
      const fix = remedyOf(reason, whither(question, instance))
      const step = stepOf(instance, { verdict: 'failed', finding: reason, cause: detail, fix })
      return { instance, step, channel: null, authority: '' }
    }
  }
}

/** Calls that stay on this host are judged by this agent; null unless it would refuse. */
function judgedHere(
  { explain }: WalkParts,
  caller: SpiffeId,
  question: Question,
): Omit<WhyStep, 'name'> | null {
  const { method = '', path = '/' } = question.request ?? {}
  const service = nameOf(question)
  const answer = explain(new URLSearchParams({ source: caller, service, method, path }))
  if (answer.kind !== 'explained' || answer.verdict !== 'denied') return null
  const { by, ref, reason } = answer
  const where = ref === null || ref.file === '' ? '' : `${ref.file}:${ref.line}`
  const place = by.includes(where) ? '' : ` (${where})`
  const fix = `meshctl authz explain ${caller} ${service}`
  return { verdict: 'failed', finding: reason, cause: `${by}${place}`, fix }
}

async function requested(
  { clock }: WalkParts,
  { channel, instance, authority }: Try & { readonly channel: Channel },
  question: Question,
  isHttp: boolean,
): Promise<WhyStep> {
  const { request } = question
  const service = nameOf(question)
  if (request === null || !isHttp) {
    channel.abort()
    const how = isHttp ? 'none was sent; --path sends one' : 'none was sent: it is not HTTP'
    return skipped('request', how)
  }
  const { method, path } = request
  const what = `${method} ${path} to ${instance.host}`
  const host = authority === '' ? `${service}.mesh` : authority
  const answer = await askHttp({ channel, clock }, { method, path, host })
  const name = 'request'
  switch (answer.kind) {
    case 'silent': {
      const fix = `look at the log of ${service} on ${instance.host}`
      return { name, verdict: 'failed', finding: `${what}: no answer`, cause: answer.detail, fix }
    }
    case 'answered': {
      const { status, reason, detail } = answer
      const finding = `${what}: ${status}`
      if (reason !== '' && reason !== 'ok') {
        const fix = remedyOf(reason as Reason, whither(question, instance))
        return { name, verdict: 'failed', finding: `${finding} ${reason}`, cause: detail, fix }
      }
      return status < 500
        ? {
            name,
            verdict: 'ok',
            finding: `${finding}, from the service itself`,
            cause: '',
            fix: '',
          }
        : {
            name,
            verdict: 'failed',
            finding,
            cause: 'the service itself answered so; the mesh only carried it',
            fix: `look at the log of ${service} on ${instance.host}`,
          }
    }
  }
}

function nameOf({ target }: Question): string {
  return targetName(target.service, target.portName)
}

function whither({ target }: Question, { host, local }: InstanceReport) {
  return { service: target.service, host, isLocal: local }
}

function stepOf({ host, id }: InstanceReport, step: Omit<WhyStep, 'name'>): WhyStep {
  return { name: `instance ${id} on ${host}`, ...step }
}

function skipped(name: string, finding: string): WhyStep {
  return { name, verdict: 'skipped', finding, cause: '', fix: '' }
}
