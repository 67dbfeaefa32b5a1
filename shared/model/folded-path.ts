/**
 * Owns how decoded paths fold for comparing: what some service might take for the same is the same
 * here. Rules that deny compare folded paths, because they must hold for the most forgiving service.
 */

/** Characters that take no room and that some systems ignore. */
const ignorable = /\p{Default_Ignorable_Code_Point}/gu
/** Dots and blanks at the end of a segment, which some file systems drop. */
const segmentTail = /[. ]+(?=\/|$)/g

/** Folds a decoded path. */
export function foldPath(path: string): string {
  // oxlint-disable-next-line eslint/no-control-regex
  const plain = /^[\0-\x7f]*$/.test(path) ? path : foldedBeyondAscii(path)
  const lower = plain.toLowerCase().replace(segmentTail, '')
  return lower.length > 1 && lower.endsWith('/') ? lower.slice(0, -1) : lower
}

/** Up and down again, because some letters are the same only one way. */
function foldedBeyondAscii(path: string): string {
  const folded = path.normalize('NFKC').replace(ignorable, '').toUpperCase().toLowerCase()
  return folded.replaceAll('i\u0307', 'i')
}
