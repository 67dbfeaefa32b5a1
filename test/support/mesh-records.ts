/** Owns store records for tests, short to write: hosts `a`, `b`, ... with one instance a service. */

import {
  must,
  parseHostName,
  parseInstanceId,
  parsePort,
  parseServiceName,
} from '#shared/model/names.ts'
import type { HostPresence, InstanceRecord } from '#shared/model/records.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { instanceKey, presenceKey } from '#shared/store/keys.ts'

/** The record of a service's instance on a host. */
export function instanceOf(
  service: string,
  host: string,
  more: Partial<Omit<InstanceRecord, 'service' | 'host'>> = {},
): InstanceRecord {
  return {
    service: must(parseServiceName(service)),
    host: must(parseHostName(host)),
    id: must(parseInstanceId('1')),
    protocol: 'http',
    port: must(parsePort(8080)),
    weight: 100,
    state: 'up',
    ...more,
  }
}

/** The presence of a host. */
export function presenceOf(
  host: string,
  more: Partial<Omit<HostPresence, 'host'>> = {},
): HostPresence {
  return {
    host: must(parseHostName(host)),
    address: '10.0.0.1',
    tunnelPort: must(parsePort(15008)),
    zone: '',
    version: '0.1.0',
    ...more,
  }
}

/** Key and text of a record, as they stand in the store. */
export function entryOf(record: InstanceRecord | HostPresence): readonly [string, string] {
  const key =
    'service' in record
      ? instanceKey(record.service, record.host, record.id)
      : presenceKey(record.host)
  return [key, encodeRecord(record)]
}
