/**
 * Owns what an instance says of itself for those who choose among instances: its version, tags,
 * metadata and zone. Each is absent where nothing is said, because a mesh has many instances.
 */

/** See the header. */
export interface InstanceLabels {
  /** Where it runs, if not where its host is. */
  readonly zone?: string
  /** The release of the service it runs. */
  readonly version?: string
  readonly tags?: readonly string[]
  readonly metadata?: Readonly<Record<string, string>>
}

type Unsaid<T> = { readonly [K in keyof T]?: T[K] | undefined }

/** The labels of a value that may say more, without what says nothing. */
export function labelsOf({
  zone,
  version,
  tags,
  metadata,
}: Unsaid<InstanceLabels>): InstanceLabels {
  return {
    ...(zone === undefined || zone === '' ? {} : { zone }),
    ...(version === undefined || version === '' ? {} : { version }),
    ...(tags === undefined || tags.length === 0 ? {} : { tags }),
    ...(metadata === undefined || Object.keys(metadata).length === 0 ? {} : { metadata }),
  }
}
