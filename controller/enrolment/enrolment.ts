/**
 * Owns the one way a host gets in: a join token and a CSR for the host's first credential. The
 * certificate is made before the token is used up and handed over after, so that a failure costs
 * nobody a token. Every attempt leaves an audit line.
 */

import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import { checkCsr } from '#shared/pki/csr.ts'
import type { Answer } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { EnrolReply, EnrolRequest, MeshDescription } from '#shared/rpc/host-messages.ts'
import type { Authority } from '#controller/ca/authority.ts'
import type { HostAccess } from '#controller/store/host-access.ts'
import type { GoodToken, JoinTokens } from './join-tokens.ts'

/** What it leans on. */
export interface EnrolmentParts {
  readonly authority: Authority
  readonly tokens: JoinTokens
  readonly access: HostAccess
  /** Whether a host is banned. */
  readonly isBanned: (host: HostName) => boolean
  readonly describe: () => MeshDescription
  readonly logger: Logger
}

/** See the header. */
export class Enrolment {
  readonly #parts: EnrolmentParts

  constructor(parts: EnrolmentParts) {
    this.#parts = parts
  }

  /** Trades a token and a CSR for a host credential; `from` is for the audit line. */
  async enrol(request: EnrolRequest, from: string): Promise<Answer<EnrolReply>> {
    const asked = parseHostName(request.host)
    const advice = newToken(asked.ok ? asked.value : 'HOST')
    const verdict = await this.#parts.tokens.judge(request.token)
    if (verdict.kind === 'refused') {
      return this.#refuse(from, verdict.reason, `${verdict.detail}; ${advice}`)
    }
    const { token } = verdict
    const { host } = token.record
    if (request.host !== '' && request.host !== host) {
      return this.#refuse(
        from,
        'token-for-another-host',
        `the join token is for host "${host}", this host goes by ${JSON.stringify(request.host.slice(0, 100))}; ` +
          `set "host" in the agent's configuration, or ${advice}`,
      )
    }
    if (this.#parts.isBanned(host)) {
      const message = `host "${host}" is banned; an operator may lift that: meshctl host unban ${host}`
      return this.#refuse(from, 'host-banned', message)
    }
    const csr = checkCsr(request.csr)
    if (!csr.ok) return this.#refuse(from, 'bad-csr', csr.problem)
    const certificate = await this.#parts.authority.issueHost(host, csr.value)
    await this.#parts.access.admitHost(host, token.record.services)
    if (!(await this.#parts.tokens.redeem(token))) {
      return this.#refuse(from, 'token-used', `the join token was used a moment ago; ${advice}`)
    }
    this.#admitted(from, token, certificate.serial)
    return { ok: true, value: { certificate, mesh: this.#parts.describe(), host } }
  }

  #admitted(from: string, token: GoodToken, serial: string): void {
    const { host, services, createdBy } = token.record
    const facts = { from, tokenId: token.id, host, services, createdBy, serial }
    this.#parts.logger.info({ audit: 'host-enrolled', ...facts }, 'a host enrolled')
  }

  #refuse(from: string, code: string, message: string): Answer<never> {
    this.#parts.logger.warn({ audit: 'enrolment-refused', from, code }, message)
    return refuse(code === 'bad-csr' ? 'bad-request' : 'unauthenticated', code, message)
  }
}

function newToken(host: string): string {
  return `ask an operator for a new one: meshctl token create ${host} --service '*'`
}
