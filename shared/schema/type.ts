/** Owns the door to typebox for schemas that live in other rooms, such as boot configs. */

export { Type } from 'typebox'
export type { Static, TObject } from 'typebox'
