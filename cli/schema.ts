/** Owns `meshctl schema`: the manifest's JSON Schema, for editors. */

import { manifestSchema } from '#shared/schema/manifest.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'

/** Prints the schema; it is JSON with or without `--json`. */
export function schema(parts: { readonly printer: Printer }): number {
  parts.printer.result(manifestSchema, () => JSON.stringify(manifestSchema, null, 2))
  return exitCodes.ok
}
