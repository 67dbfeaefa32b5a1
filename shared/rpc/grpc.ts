/**
 * Owns the import of `@grpc/grpc-js` and `@grpc/proto-loader`. Everything else says what it needs
 * of gRPC through this file.
 */

import * as grpc from '@grpc/grpc-js'
import type { Options } from '@grpc/proto-loader'
import { loadSync } from '@grpc/proto-loader'
import { fileURLToPath } from 'node:url'

export { grpc }

/**
 * Loads the services of a `.proto` file, by full name. Fields are in camel case, unset ones have
 * their defaults, enums are their names; 64-bit numbers are JavaScript numbers unless `options`
 * says otherwise, as it must where they can pass 2^53.
 */
export function loadProto(
  file: URL,
  options: Options = {},
): Readonly<Record<string, grpc.ServiceDefinition>> {
  const loaded = loadSync(fileURLToPath(file), {
    longs: Number,
    enums: String,
    defaults: true,
    ...options,
  })
  const services: Record<string, grpc.ServiceDefinition> = {}
  for (const [name, definition] of Object.entries(loaded)) {
    if (!('format' in definition)) services[name] = definition
  }
  return services
}
