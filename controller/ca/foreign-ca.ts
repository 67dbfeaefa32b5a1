/**
 * Owns what comes into the CA from outside, while the controller is stopped: a root or an issuing
 * certificate with its key, or the answer to a request whose key never left this host. What is taken
 * in is checked here, because everything the mesh trusts will hang on it; a CA that is there already
 * is never replaced but by a newer issuing certificate under the same root.
 */

import type { KeyObject, X509Certificate } from 'node:crypto'
import { createPublicKey } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyFromPem, keyToPem } from '#shared/pki/keys.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { x509 } from '#shared/pki/x509.ts'
import type { CaSlot, CaState } from './ca-state.ts'
import { changeCaState, readCaState, slotAfter, writeCaState } from './ca-state.ts'
import type { CaCertificate } from './certificates.ts'
import { keyFits, makeIssuing } from './certificates.ts'

/** What it leans on. */
export interface ForeignCaParts {
  readonly clock: Clock
  readonly random: Random
}

/** Which CA. */
export interface ForeignCaSettings {
  readonly stateDirectory: string
  readonly trustDomain: TrustDomain
}

/** A key with the certificates that came with it. */
export interface CaMaterial {
  readonly key: KeyObject
  readonly certificates: readonly X509Certificate[]
}

const requestFile = 'ca-request.key'
/** Whoever brings one that ends sooner has taken the wrong file. */
const leastLeftMs = 86_400_000

/** Makes a key that stays here and a request for its issuing certificate, PEM. May be repeated. */
export async function requestCa(settings: ForeignCaSettings): Promise<string> {
  const path = join(settings.stateDirectory, requestFile)
  const known = existsSync(path) ? keyFromPem(await readFile(path, 'utf8')) : null
  const key = known ?? (await generateKey())
  if (known === null) {
    await mkdir(settings.stateDirectory, { recursive: true, mode: 0o700 })
    await writeFileAtomic(path, keyToPem(key))
  }
  const base64 = (await makeCsr(key, `${settings.trustDomain} issuing`)).toString('base64')
  const lines = base64.match(/.{1,64}/g) ?? []
  const label = 'CERTIFICATE REQUEST'
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

/** Takes the answer to a request: the issuing certificate and its root, PEM. Throws MeshError. */
export async function acceptCa(
  parts: ForeignCaParts,
  settings: ForeignCaSettings & { readonly file: string },
): Promise<CaSlot> {
  const path = join(settings.stateDirectory, requestFile)
  const key = existsSync(path) ? keyFromPem(await readFile(path, 'utf8')) : null
  if (key === null) {
    throw unusable(settings.file, 'nothing was requested here: run main.ts request-ca first')
  }
  const slot = await slotOf(parts, settings, { key, certificates: await readPem(settings.file) })
  await install(parts, settings, slot)
  await rm(path, { force: true })
  return slot
}

/** Takes a root or an issuing certificate with its key. Throws MeshError. */
export async function importCa(
  parts: ForeignCaParts,
  settings: ForeignCaSettings & { readonly file: string },
  material: CaMaterial,
): Promise<CaSlot> {
  const slot = await slotOf(parts, settings, material)
  await install(parts, settings, slot)
  return slot
}

/** Reads a PEM file with certificates and one key. Throws MeshError `ca-unusable`. */
export async function readPemMaterial(file: string): Promise<CaMaterial> {
  const key = keyFromPem(await readText(file))
  if (key === null) throw unusable(file, 'it holds no P-256 key in plain PKCS#8 or SEC 1')
  return { key, certificates: await readPem(file) }
}

/** Finds out what there is, and checks all of it. */
async function slotOf(
  parts: ForeignCaParts,
  settings: ForeignCaSettings & { readonly file: string },
  { key, certificates }: CaMaterial,
): Promise<CaSlot> {
  const { file, trustDomain } = settings
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const own = certificates.find((certificate) =>
    certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(spki),
  )
  if (own === undefined) throw unusable(file, 'it holds no certificate for the key')
  const nowMs = parts.clock.now()
  checkCa(file, own, nowMs)
  if (isSelfSigned(own)) {
    const root = toCa(own, key)
    return { root, issuing: await makeIssuing({ ...parts, root }, { trustDomain, nowMs }) }
  }
  const root = certificates.find((one) => own.checkIssued(one) && own.verify(one.publicKey))
  if (root === undefined)
    throw unusable(file, `the certificate of its issuer, ${own.issuer}, is missing`)
  if (!isSelfSigned(root)) {
    throw unusable(
      file,
      `its issuer, ${root.subject}, is no root; have it signed by the root itself`,
    )
  }
  checkCa(file, root, nowMs)
  const san = `URI:spiffe://${trustDomain}`
  if (own.subjectAltName !== san) {
    throw unusable(
      file,
      `the SAN of an issuing certificate must be ${san} and nothing else, it is ${own.subjectAltName ?? 'absent'}`,
    )
  }
  return { root: { certificate: toX509(root), key: null }, issuing: toCa(own, key) }
}

function checkCa(file: string, certificate: X509Certificate, nowMs: number): void {
  const wrong = (why: string): MeshError => unusable(file, `${certificate.subject} ${why}`)
  const usage = toX509(certificate).getExtension(x509.KeyUsagesExtension)
  // RFC 5280 §4.1.2.6: an issuer has a name.
  if (certificate.subject === undefined || certificate.subject === '') {
    throw unusable(file, 'a certificate in it has no subject')
  }
  if (!certificate.ca) throw wrong('is no CA certificate')
  if (usage !== null && (usage.usages & x509.KeyUsageFlags.keyCertSign) === 0) {
    throw wrong('may not sign certificates')
  }
  if (certificate.validFromDate.getTime() > nowMs) throw wrong('is not valid yet')
  if (certificate.validToDate.getTime() < nowMs + leastLeftMs) {
    throw wrong(`ends at ${certificate.validTo}`)
  }
}

async function install(
  parts: ForeignCaParts,
  settings: ForeignCaSettings & { readonly file: string },
  slot: CaSlot,
): Promise<void> {
  const { stateDirectory, trustDomain, file } = settings
  const found = await readCaState(stateDirectory)
  if (found === null) {
    const current = slotAfter([])
    const slots = new Map([[current, slot]])
    await writeCaState(parts, stateDirectory, {
      trustDomain,
      phase: { kind: 'steady', current },
      slots,
    })
    return
  }
  const { current } = found.phase
  const known = found.slots.get(current)
  const sameRoot =
    known !== undefined &&
    Buffer.from(known.root.certificate.rawData).equals(Buffer.from(slot.root.certificate.rawData))
  if (found.trustDomain !== trustDomain || !sameRoot || found.phase.kind !== 'steady') {
    throw unusable(
      file,
      `${stateDirectory} holds a CA of another root already; a mesh changes its root with meshctl ca rotate, a new mesh begins in an empty directory`,
    )
  }
  const slots = new Map([[current, { root: known.root, issuing: slot.issuing }]])
  const after: CaState = { trustDomain, phase: found.phase, slots }
  await changeCaState(stateDirectory, found, after)
}

function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey)
}

function toX509(certificate: X509Certificate): CaCertificate['certificate'] {
  return new x509.X509Certificate(certificate.raw)
}

function toCa(certificate: X509Certificate, key: KeyObject): CaCertificate {
  const ca = { certificate: toX509(certificate), key }
  if (!keyFits(ca)) throw new TypeError('a certificate was taken for another key')
  return ca
}

async function readPem(file: string): Promise<readonly X509Certificate[]> {
  const certificates = splitPem(await readText(file))
  if (!certificates.ok) throw unusable(file, certificates.problem)
  return certificates.value
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw unusable(file, messageOf(error))
  }
}

/** The one kind of failure of this room's files. */
export function unusable(file: string, why: string): MeshError {
  return new MeshError(`${file} cannot become this controller’s CA: ${why}`, {
    code: 'ca-unusable',
    hint: 'nothing was changed; see docs/operations.md, "A certificate authority of your own"',
  })
}
