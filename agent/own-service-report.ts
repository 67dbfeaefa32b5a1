/**
 * Owns what the agent says of the services of its own host: of each manifest its verdict, health and
 * whether others are told of it, for the admin socket and for receipts. It changes nothing.
 */

import type { Detector } from './detection/detector.ts'
import type { ExternalServices } from './external/external-services.ts'
import type { InstanceHealth } from './health/check-rules.ts'
import type { HealthBoard } from './health/health-board.ts'
import type { IdentityKeeper } from './identity/identity-keeper.ts'
import { carriageNotes } from './manifests/carriage-notes.ts'
import type { ReceiptFacts } from './manifests/receipt.ts'
import { weightNotes } from './manifests/weight-notes.ts'
import type { ProtectedManifests } from './policies/protected-manifests.ts'
import type { Registrar } from './registration/registrar.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { InstanceRecord } from '#shared/model/records.ts'
import { targetName } from '#shared/model/target.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { instanceKey } from '#shared/store/keys.ts'
import type { StoreLink } from '#shared/store/link.ts'

/** The rooms it asks. */
export interface OwnServiceReportParts {
  readonly keeper: Pick<IdentityKeeper, 'credentialOf'>
  readonly watcher: Pick<ProtectedManifests, 'verdicts' | 'of'>
  readonly health: Pick<HealthBoard, 'statusOf' | 'sinceMs'>
  readonly detector: Pick<Detector, 'findingOf' | 'mismatchOf'>
  readonly externals: Pick<ExternalServices, 'warningsOf'>
  readonly registrar: Pick<Registrar, 'offeredOf' | 'withheld' | 'rotation' | 'openTo'>
  /** Null until the host has enrolled. */
  readonly membership: () => {
    readonly link: Pick<StoreLink, 'state' | 'publication'>
  } | null
}

const withheldWords = {
  drained: 'it was taken out of rotation (meshctl undrain)',
  'no-certificate': 'it has no certificate that is valid (meshctl check)',
  'others-port': 'another user listens at its port',
  'not-healthy': 'its health check does not pass',
  'not-asked': 'it has not told yet how it speaks',
  'no-tunnel': 'no worker takes tunnels yet',
} as const

const nothing: ReceiptFacts = {}

/** See the header. */
export class OwnServiceReport {
  readonly #parts: OwnServiceReportParts

  /** What was told last, and what it was made of. */
  readonly #receiptFacts = new WeakMap<
    Manifest,
    { readonly of: readonly unknown[]; readonly facts: ReceiptFacts }
  >()

  constructor(parts: OwnServiceReportParts) {
    this.#parts = parts
  }

  manifests(): readonly ManifestReport[] {
    return this.#parts.watcher.verdicts.map((judged) => {
      const { path, verdict, judgedAtMs, manifest, problems } = judged
      const isServed = manifest?.port !== undefined
      const health = isServed ? this.#parts.health.statusOf(manifest.service) : null
      const publication = isServed ? this.#publication(manifest.service) : null
      return {
        file: path,
        service: manifest?.service ?? '',
        verdict,
        judgedAtMs,
        problems: problems.map(renderProblem),
        warnings: manifest === null ? [] : this.#warningsOf(manifest),
        upstreams:
          manifest?.upstreams.map(({ service, portName = null }) =>
            targetName(service, portName),
          ) ?? [],
        requires: manifest?.requires ?? [],
        unit: manifest === null ? '' : unitOf(manifest),
        health: health?.state ?? 'none',
        healthDetail: health === null || health.state === 'passing' ? '' : health.detail,
        healthSinceMs: isServed ? this.#parts.health.sinceMs(manifest.service) : 0,
        portsDown: portsDownOf(health),
        published: publication?.ok === true,
        withheld: publication?.detail ?? '',
        speech: isServed ? (this.#parts.detector.findingOf(manifest.service)?.speech ?? '') : '',
        mismatch: isServed ? this.#parts.detector.mismatchOf(manifest.service) : '',
        rotation: isServed ? this.#parts.registrar.rotation(manifest.service) : 'in',
        open: isServed ? this.#parts.registrar.openTo(manifest.service) : null,
        revision: publication?.revision ?? 0,
        certificateEndsMs: isServed
          ? (this.#parts.keeper.credentialOf(manifest.service)?.notAfterMs ?? 0)
          : 0,
      }
    })
  }

  /**
   * What a receipt tells of a manifest's service beside the verdict on its file; the same object for as
   * long as nothing of it changes, because a host may have a thousand and asks for all of them.
   */
  receiptFacts(manifest: Manifest | null): ReceiptFacts {
    if (manifest === null) return nothing
    const { health, registrar, detector, keeper } = this.#parts
    const { service } = manifest
    const warnings = this.#warningsOf(manifest)
    if (manifest.port === undefined) return warnings.length === 0 ? nothing : { warnings }
    const { ok, detail, revision } = this.#publication(service)
    const of = [
      health.statusOf(service),
      detector.findingOf(service),
      detector.mismatchOf(service),
      registrar.offeredOf(service),
      keeper.credentialOf(service),
      ok,
      detail,
      revision,
      warnings.join('\n'),
    ] as const
    const known = this.#receiptFacts.get(manifest)
    if (known?.of.every((one, at) => one === of[at]) === true) return known.facts
    const [status, finding, mismatch, record, credential] = of
    const instances = record === null ? [] : [publishedOf(record)]
    const facts: ReceiptFacts = {
      ...(warnings.length === 0 ? {} : { warnings }),
      ...(status === null ? {} : { health: status }),
      ...(finding === null ? {} : { found: { ...finding, mismatch } }),
      published: { ok, detail, revision, instances },
      ...(credential === null
        ? {}
        : {
            certificate: {
              spiffeId: credential.id,
              serial: credential.serial,
              notAfterMs: credential.notAfterMs,
            },
          }),
    }
    this.#receiptFacts.set(manifest, { of, facts })
    return facts
  }

  /** What is accepted, but should be known. */
  #warningsOf(manifest: Manifest): readonly string[] {
    const { detector, externals, watcher } = this.#parts
    const { service, external, port } = manifest
    if (external !== undefined) return externals.warningsOf(service)
    if (port === undefined) return []
    const protection = watcher.of(service)
    return [
      ...(protection.kind === 'local-only' ? [protection.warning] : []),
      ...carriageNotes(manifest, (portName) => detector.findingOf(service, portName)),
      ...weightNotes(manifest),
    ]
  }

  /** Why a service of this host is not offered to others; empty where it is. */
  withheld(service: ServiceName): string {
    return this.#publication(service).detail
  }

  #publication(service: ServiceName): {
    readonly ok: boolean
    readonly detail: string
    readonly revision: number
  } {
    const { registrar } = this.#parts
    const not = (detail: string) => ({ ok: false, detail, revision: 0 })
    const record = registrar.offeredOf(service)
    if (record === null) {
      const withheld = registrar.withheld(service)
      return not(withheld === null ? 'not offered yet' : withheldWords[withheld])
    }
    const link = this.#parts.membership()?.link
    if (link === undefined) return not('this host has not enrolled yet')
    const { state } = link
    if (state.kind === 'away') return not(`the store is away: ${state.reason}`)
    const publication = link.publication(instanceKey(service, record.host, record.id))
    switch (publication.kind) {
      case 'stored':
        return { ok: true, detail: '', revision: publication.revision }
      case 'refused':
        return not(`the store refuses it: ${publication.problem}`)
      case 'pending':
      case 'none':
        return not('on its way to the store')
    }
  }
}

function portsDownOf(health: InstanceHealth | null): readonly string[] {
  return (health?.checks ?? []).flatMap(({ portName, state, detail }) =>
    portName === undefined || state !== 'failing' ? [] : [`${portName}: ${detail}`],
  )
}

function unitOf({ run, health }: Manifest): string {
  if (run?.kind === 'unit') return run.unit
  return health.find((check) => check.kind === 'systemd')?.unit ?? ''
}

function publishedOf({ host, id, port, ports, weight }: InstanceRecord) {
  return { host, id, port, ...(ports === undefined ? {} : { ports }), weight }
}
