/** Owns what operators do over the API: join tokens, hosts, bans, and the rotation of the root. */

import type { Logger } from '#shared/logging/logger.ts'
import { parseHostName } from '#shared/model/names.ts'
import type { Parsed } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Bans } from '#shared/model/trust.ts'
import type { Answer, Caller, Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { BanReply, BanRequest, ListedHost } from '#shared/rpc/operator-messages.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { KnownHost } from '#controller/ca/host-facts.ts'
import { readHosts } from '#controller/ca/host-facts.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import type { RotationAnswer, Rotator } from '#controller/ca/rotator.ts'
import type { TrustLedger } from '#controller/ca/trust-ledger.ts'
import type { Banned, Banning } from '#controller/enrolment/banning.ts'
import type { JoinTokens } from '#controller/enrolment/join-tokens.ts'
import { parseServiceGlobs } from '#shared/model/service-globs.ts'
import type { HostAccess } from '#controller/store/host-access.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface OperationsApiParts {
  readonly store: KeyValue
  readonly tokens: JoinTokens
  readonly ledger: TrustLedger
  readonly hosts: HostLedger
  readonly banning: Banning
  readonly rotator: Rotator
  readonly access: HostAccess
  readonly logger: Logger
}

const ttl = { defaultMs: 3_600_000, leastMs: 1000, mostMs: 7 * 86_400_000 } as const
const longestReason = 300
const cannotBegin: Readonly<Record<Exclude<RotationAnswer, 'done'>, string>> = {
  'under-way': 'a rotation of the root is under way; look at it with: meshctl ca rotate --status',
  'no-root-key':
    'the key of the root is not at this controller; ask the one that made the root, or replace a root of your own as you made it',
  'nothing-to-abort': 'there is nothing to give up',
}

/** The handlers of `Operations`. */
export function operationsApi(parts: OperationsApiParts): Handlers<'Operations'> {
  const { store, tokens, ledger, hosts, banning, rotator, access, logger } = parts

  return {
    async CreateToken(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const host = parseHostName(request.host)
      if (!host.ok) return refuse('bad-request', 'bad-host-name', host.problem)
      const services = parseServiceGlobs(request.services)
      if (!services.ok) return refuse('bad-request', 'bad-services', services.problem)
      const ttlMs = request.ttlMs === 0 ? ttl.defaultMs : request.ttlMs
      if (ttlMs < ttl.leastMs || ttlMs > ttl.mostMs) {
        const message = `a join token lives from 1 second to 7 days, not ${ttlMs} ms`
        return refuse('bad-request', 'bad-ttl', message)
      }
      if (Object.hasOwn(ledger.bans.hosts, host.value)) {
        const message = `host "${host.value}" is banned; first: meshctl host unban ${host.value}`
        return refuse('denied', 'host-banned', message)
      }
      const order = { host: host.value, services: services.value, createdBy: operator.value, ttlMs }
      const created = await tokens.create(order)
      if (!created.ok) return refuse('overloaded', 'too-many-tokens', created.problem)
      logger.info({ audit: 'token-created', ...order }, 'a join token was made')
      return created
    },

    async ListHosts(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const { bans, epochs } = ledger
      const all = (await readHosts(store, hosts)).map((host) => listed(host, bans))
      const serials = Object.entries(bans.serials).map(([serial, { reason, at }]) => {
        return { serial, reason, at }
      })
      return { ok: true, value: { hosts: all, serials, bansEpoch: epochs.bans } }
    },

    async Ban(request, caller) {
      const reason = request.reason.trim()
      if (reason.length > longestReason) {
        const message = `a reason has at most ${longestReason} characters, not ${reason.length}`
        return refuse('bad-request', 'bad-reason', message)
      }
      return order(ledger, request, caller, (whom, by) => banning.ban(whom, reason, by))
    },

    async Unban(request, caller) {
      return order(ledger, request, caller, (whom, by) => banning.unban(whom, by))
    },

    async SetHostServices(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const host = parseHostName(request.host)
      if (!host.ok) return refuse('bad-request', 'bad-host-name', host.problem)
      const services = parseServiceGlobs(request.services)
      if (!services.ok) return refuse('bad-request', 'bad-services', services.problem)
      const change = await hosts.change(host.value, (known) => {
        return known === null ? null : { ...known, services: services.value }
      })
      if (change.kind === 'declined') {
        const message = `host "${host.value}" has not joined this mesh`
        return refuse('bad-request', 'host-unknown', message)
      }
      if (change.kind === 'raced') {
        const message = `the record of host "${host.value}" was changed at the same time; try again`
        return refuse('unavailable', 'host-record-changed', message)
      }
      const { record } = change
      await access.admitHost(host.value, services.value)
      const facts = { host: host.value, services: services.value, by: operator.value }
      logger.info({ audit: 'host-services-set', ...facts }, 'what a host may speak for was set')
      return { ok: true, value: listed({ record, live: false, report: null }, ledger.bans) }
    },

    async RotateRoot(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      switch (request.action) {
        case 'begin': {
          const answer = await rotator.begin(operator.value)
          if (answer === 'done') break
          return refuse('bad-request', `rotation-${answer}`, cannotBegin[answer])
        }
        case 'abort':
          if ((await rotator.abort(operator.value)) === 'done') break
          return refuse(
            'bad-request',
            'no-rotation',
            'there is no rotation of the root to give up; look with: meshctl ca rotate --status',
          )
        case 'status':
          break
        default:
          return refuse('bad-request', 'bad-action', 'the action must be begin, abort or status')
      }
      return { ok: true, value: await rotator.status() }
    },
  }
}

async function order(
  ledger: TrustLedger,
  request: BanRequest,
  caller: Caller,
  run: (whom: Banned, by: SpiffeId) => Promise<boolean>,
): Promise<Answer<BanReply>> {
  const operator = operatorCaller(caller)
  if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
  const whom = readBanned(request)
  if (!whom.ok) return refuse('bad-request', 'bad-ban', whom.problem)
  const changed = await run(whom.value, operator.value)
  return { ok: true, value: { changed, bansEpoch: ledger.epochs.bans } }
}

function readBanned({ host, serial }: BanRequest): Parsed<Banned> {
  if ((host === '') === (serial === '')) {
    return { ok: false, problem: 'name either a host or the serial of a certificate' }
  }
  if (host !== '') {
    const parsed = parseHostName(host)
    return parsed.ok ? { ok: true, value: { kind: 'host', host: parsed.value } } : parsed
  }
  // As openssl and browsers print it, too: upper case, with colons, with a leading zero.
  const plain = serial
    .replaceAll(':', '')
    .toLowerCase()
    .replace(/^0+(?=.)/, '')
  return /^[0-9a-f]{1,40}$/.test(plain)
    ? { ok: true, value: { kind: 'serial', serial: plain } }
    : { ok: false, problem: `serial ${JSON.stringify(serial.slice(0, 100))} is not hexadecimal` }
}

function listed({ record, live, report }: KnownHost, { hosts }: Bans): ListedHost {
  const { host, services, enrolledAt } = record
  const ban = Object.hasOwn(hosts, host) ? hosts[host] : undefined
  return {
    host,
    services,
    enrolledAt,
    ban: ban === undefined ? null : { reason: ban.reason, at: ban.at },
    live,
    bansEpoch: report?.epochs.bans ?? 0,
  }
}
