/**
 * Owns what is said of an instance for those who choose among instances: its version, tags, metadata
 * and zone, and how it was found to speak. Each is absent where nothing is said, because a mesh has many instances.
 */

/** See the header. */
export interface InstanceLabels {
  /** Where it runs, if not where its host is. */
  readonly zone?: string
  /** The release of the service it runs. */
  readonly version?: string
  readonly tags?: readonly string[]
  readonly metadata?: Readonly<Record<string, string>>
  /** What its manifest says it speaks, where its bytes are carried as they are. */
  readonly application?: string
  /** How its agent found it to speak. */
  readonly speech?: string
  /** How long it keeps an idle connection, as far as it says so. */
  readonly keepAliveMs?: number
}

type Unsaid<T> = { readonly [K in keyof T]?: T[K] | undefined }

/** The labels of a value that may say more, without what says nothing. */
export function labelsOf({
  zone,
  version,
  tags,
  metadata,
  application,
  speech,
  keepAliveMs,
}: Unsaid<InstanceLabels>): InstanceLabels {
  return {
    ...(zone === undefined || zone === '' ? {} : { zone }),
    ...(version === undefined || version === '' ? {} : { version }),
    ...(tags === undefined || tags.length === 0 ? {} : { tags }),
    ...(metadata === undefined || Object.keys(metadata).length === 0 ? {} : { metadata }),
    ...(application === undefined ? {} : { application }),
    ...(speech === undefined ? {} : { speech }),
    ...(keepAliveMs === undefined ? {} : { keepAliveMs }),
  }
}
