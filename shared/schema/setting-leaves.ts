/** Owns a schema of settings as a flat list, for pages that people read. Pure. */

import type { TObject } from './type.ts'

/** One setting. */
export interface SettingLeaf {
  /** With dots between its parts. */
  readonly key: string
  /** Its default as JSON; empty where it has none. */
  readonly preset: string
  readonly description: string
}

interface Shape {
  readonly properties?: Readonly<Record<string, Shape>>
  readonly anyOf?: readonly Shape[]
  readonly default?: unknown
  readonly description?: string
}

/** Every setting of a schema, in its order. */
export function settingLeaves(schema: TObject): readonly SettingLeaf[] {
  return leavesOf(schema, '')
}

function leavesOf(shape: Shape, prefix: string): SettingLeaf[] {
  return Object.entries(shape.properties ?? {}).flatMap(([name, part]) => {
    const key = `${prefix}${name}`
    if (name === '$schema') return []
    const object = [part, ...(part.anyOf ?? [])].find((one) => one.properties !== undefined)
    if (object !== undefined) return leavesOf(object, `${key}.`)
    const preset = part.default === undefined ? '' : JSON.stringify(part.default)
    return [{ key, preset, description: part.description ?? '' }]
  })
}
