/**
 * Owns the certificates a host may ask for: its own anew, and those of services its record allows.
 * Id and lifetime come from the record and the configuration; of the CSR only the key is used.
 */

import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { parseServiceName } from '#shared/model/names.ts'
import type { HostRecord } from '#shared/model/records.ts'
import { checkCsr } from '#shared/pki/csr.ts'
import type { Answer, Caller, Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { Issued, MeshDescription } from '#shared/rpc/host-messages.ts'
import type { Authority } from '#controller/ca/authority.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import { coversService } from '#shared/model/service-globs.ts'
import { hostCaller } from './callers.ts'
import type { HostAccess } from '#controller/store/host-access.ts'
import type { RateLimits } from './rate-limits.ts'

/** What it leans on. */
export interface CertificatesApiParts {
  readonly authority: Authority
  readonly hosts: Pick<HostLedger, 'read'>
  readonly limits: RateLimits
  readonly access: HostAccess
  readonly describe: () => MeshDescription
  readonly logger: Logger
}

/** The handlers of `Certificates`. */
export function certificatesApi(parts: CertificatesApiParts): Handlers<'Certificates'> {
  const { authority, limits, logger } = parts

  return {
    async RenewHost(request, caller) {
      const host = await authorised(parts, caller)
      if (!host.ok) return host
      const csr = checkCsr(request.csr)
      if (!csr.ok) return refuse('bad-request', 'bad-csr', csr.problem)
      return issued(logger, host.value.host, authority.issueHost(host.value.host, csr.value))
    },

    async IssueService(request, caller) {
      const host = await authorised(parts, caller)
      if (!host.ok) return host
      const service = parseServiceName(request.service)
      if (!service.ok) return refuse('bad-request', 'bad-service-name', service.problem)
      const { services, host: name } = host.value
      if (!coversService(services, service.value)) {
        const message =
          `host "${name}" may not speak for service "${service.value}": its record allows ${services.join(', ')}; ` +
          'to allow more, enrol it again with a token for these services'
        logger.warn({ audit: 'certificate-refused', host: name, service: service.value }, message)
        return refuse('denied', 'service-not-allowed', message)
      }
      const csr = checkCsr(request.csr)
      if (!csr.ok) return refuse('bad-request', 'bad-csr', csr.problem)
      await parts.access.allowService(name, service.value)
      return issued(logger, name, authority.issueService(service.value, name, csr.value))
    },

    async DescribeMesh(_request, caller) {
      if (caller.id === null) {
        return refuse('unauthenticated', 'no-identity', 'this call needs a certificate of the mesh')
      }
      return limits.take(caller.id) ? { ok: true, value: parts.describe() } : tooMany()
    },
  }
}

async function authorised(
  parts: CertificatesApiParts,
  caller: Caller,
): Promise<Answer<HostRecord>> {
  const host = hostCaller(caller)
  if (!host.ok) return refuse('denied', 'not-a-host', host.problem)
  if (!parts.limits.take(host.value)) return tooMany()
  const record = await parts.hosts.read(host.value)
  if (record === null) {
    return refuse(
      'denied',
      'host-unknown',
      `host "${host.value}" has no record in this mesh; enrol it again with a new join token`,
    )
  }
  return { ok: true, value: record }
}

async function issued(
  logger: Logger,
  host: HostName,
  issuing: Promise<Issued>,
): Promise<Answer<Issued>> {
  const value = await issuing
  const { spiffeId: id, serial, notAfterMs } = value
  logger.info({ audit: 'certificate-issued', host, id, serial, notAfterMs }, 'certificate issued')
  return { ok: true, value }
}

function tooMany(): Answer<never> {
  return refuse('overloaded', 'too-many-calls', 'too many calls from this caller; try again later')
}
