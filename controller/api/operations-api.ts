/** Owns what operators do over the API: make join tokens, list hosts. */

import type { Logger } from '#shared/logging/logger.ts'
import { parseHostName } from '#shared/model/names.ts'
import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { ListedHost } from '#shared/rpc/mesh-api.ts'
import { decodeMeshEntry } from '#shared/schema/records.ts'
import { hostsPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { JoinTokens } from '#controller/enrolment/join-tokens.ts'
import { parseServiceGlobs } from '#shared/model/service-globs.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface OperationsApiParts {
  readonly store: KeyValue
  readonly tokens: JoinTokens
  readonly logger: Logger
}

const ttl = { defaultMs: 3_600_000, leastMs: 1000, mostMs: 7 * 86_400_000 } as const

/** The handlers of `Operations`. */
export function operationsApi(parts: OperationsApiParts): Handlers<'Operations'> {
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
      const order = { host: host.value, services: services.value, createdBy: operator.value, ttlMs }
      const created = await parts.tokens.create(order)
      if (!created.ok) return refuse('overloaded', 'too-many-tokens', created.problem)
      parts.logger.info({ audit: 'token-created', ...order }, 'a join token was made')
      return created
    },

    async ListHosts(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const { entries } = await parts.store.list(hostsPrefix)
      const hosts: ListedHost[] = []
      for (const { key, value } of entries) {
        const entry = decodeMeshEntry(key, value)
        if (entry.ok && entry.value.kind === 'host') hosts.push(entry.value.record)
        else parts.logger.warn({ key }, 'damaged host record')
      }
      return { ok: true, value: { hosts } }
    },
  }
}
