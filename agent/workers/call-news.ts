/** Owns what workers tell of the calls they carry: which services are called, and which they lack. Types. */

import type { ServiceName } from '#shared/model/names.ts'
import type { NotFound } from './messages.ts'

/** Is told what workers call. */
export interface CallNews {
  /** Looks for a service; null: it comes, or has come, with a snapshot. Never rejects. */
  lookUp(service: ServiceName): Promise<NotFound | null>
  used(services: readonly ServiceName[]): void
}
