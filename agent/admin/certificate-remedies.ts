/**
 * Owns what an operator is told to do about a certificate that was refused or could not be renewed.
 * It judges nothing: the checks do.
 */

import type { CertificateReport } from '#shared/model/admin.ts'

/** Problems that only another token mends. */
const needsToken: ReadonlySet<string> = new Set([
  'not-enrolled',
  'host-certificate-ended',
  'host-file-damaged',
  'token-malformed',
  'token-foreign',
  'token-unknown',
  'token-used',
  'token-expired',
  'token-for-another-host',
  'root-mismatch',
])

/** What brings a host in, or back. */
export function newToken(host: string): string {
  return `meshctl token create ${host} --service '*', and put the token into the file of joinTokenFile`
}

/** What mends a refusal or failure, by its code; otherwise whoever refused says so in the hint. */
export function remedyOf(host: string, { code, hint }: CertificateReport): string {
  if (code === 'service-not-allowed') {
    return `meshctl token create ${host} --service NAME for every service it runs, and put the token into the file of joinTokenFile: it is taken within a minute`
  }
  if (code === 'banned') return `meshctl host unban ${host}, if it is to be in the mesh`
  if (code.startsWith('controller-')) return 'see controller-reachable'
  if (needsToken.has(code)) return newToken(host)
  return hint || 'the controller’s log names each refusal'
}
