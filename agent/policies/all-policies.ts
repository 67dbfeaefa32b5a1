/**
 * Owns every policy that counts on this host beside what manifests say: its own policy files, and
 * those of the mesh, which the controller signed. It reads neither.
 */

import type { Policy } from '#shared/model/policy.ts'
import type { PolicyFiles, PolicyVerdict } from './policy-files.ts'

/** See the header. */
export class AllPolicies {
  readonly #files: Pick<PolicyFiles, 'verdicts' | 'policies' | 'directoryProblem' | 'onChange'>
  readonly #listeners = new Set<() => void>()
  #mesh: readonly Policy[] = []

  constructor(parts: {
    readonly files: Pick<PolicyFiles, 'verdicts' | 'policies' | 'directoryProblem' | 'onChange'>
  }) {
    this.#files = parts.files
    parts.files.onChange(() => this.#tell())
  }

  /** What is in force. */
  get policies(): readonly Policy[] {
    return [...this.#files.policies, ...this.#mesh]
  }

  /** The verdict on every file, and on each policy of the mesh as if it were one. */
  get verdicts(): readonly PolicyVerdict[] {
    const ofMesh = this.#mesh.map((policy): PolicyVerdict => {
      return { path: policy.file, verdict: 'accepted', problems: [], policy }
    })
    return [...this.#files.verdicts, ...ofMesh]
  }

  get directoryProblem(): string {
    return this.#files.directoryProblem
  }

  /** Takes over what the mesh says now; the same object again is no news. */
  setMesh(policies: readonly Policy[]): void {
    if (policies === this.#mesh) return
    this.#mesh = policies
    this.#tell()
  }

  /** Calls back after every change. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}
