/**
 * Owns the reading of a test runner's TAP: which tests passed, failed or were left out, with the
 * words a person needs. A test is a subtest without subtests; assertions are not counted. It prints
 * nothing.
 */

/** One test as the runner saw it. */
export interface TestResult {
  readonly file: string
  /** The names of its groups and its own, joined by ` › `; the file's where it has no name. */
  readonly name: string
  readonly verdict: 'passed' | 'failed' | 'skipped'
  /** Why it was left out; empty otherwise. */
  readonly reason: string
  /** What went wrong, as the runner said it. */
  readonly detail: readonly string[]
}

/** One finished test file. */
export interface FileResult {
  readonly file: string
  readonly tests: readonly TestResult[]
  /** How long it took, milliseconds; 0 where the runner did not say. */
  readonly tookMs: number
}

interface Frame {
  readonly name: string
  hasSubtests: boolean
  readonly failures: string[]
}

interface Point {
  readonly ok: boolean
  readonly name: string
  readonly skip: string | null
}

const pointShape = /^(not )?ok \d+(?: - (.*?))?(?: # (SKIP|TODO)\b ?(.*?))?(?: # time=([\d.]+)ms)?$/
const detailLines = 24

/** Takes lines one by one and hands out each file's tests once it has ended. */
export class TapReport {
  readonly #onFile: (result: FileResult) => void
  #frames: Frame[] = []
  #tests: TestResult[] = []
  #yamlIndent = -1
  #yamlTarget: string[] | null = null

  constructor(onFile: (result: FileResult) => void) {
    this.#onFile = onFile
  }

  /** One line of TAP, without its line break. */
  line(line: string): void {
    const text = line.trimStart()
    const indent = line.length - text.length
    if (this.#yamlIndent >= 0) {
      if (text === '...' && indent === this.#yamlIndent) this.#yamlIndent = -1
      else if (this.#yamlTarget !== null && this.#yamlTarget.length < detailLines)
        this.#yamlTarget.push(line.slice(this.#yamlIndent))
      return
    }
    if (text === '---') {
      this.#yamlIndent = indent
      return
    }
    if (indent % 4 !== 0) return
    const depth = indent / 4
    if (text.startsWith('# Subtest: ')) this.#open(depth, text.slice('# Subtest: '.length))
    else this.#point(depth, text)
  }

  #open(depth: number, name: string): void {
    this.#frames.length = Math.min(this.#frames.length, depth)
    const parent = this.#frames.at(-1)
    if (parent !== undefined) parent.hasSubtests = true
    this.#frames.push({ name, hasSubtests: false, failures: [] })
  }

  #point(depth: number, text: string): void {
    const match = pointShape.exec(text)
    if (match === null) return
    const [, not, name = '', directive, why = '', time = '0'] = match
    const skip = directive === undefined ? null : why || directive.toLowerCase()
    const point = { ok: not === undefined, name: name.replaceAll('\\#', '#'), skip }
    this.#yamlTarget = null
    if (this.#frames.length > depth) this.#close(depth, point, Number(time))
    else this.#assertion(point)
  }

  #assertion(point: Point): void {
    const frame = this.#frames.at(-1)
    if (point.skip !== null) {
      this.#add('skipped', point.skip, [], point.name)
      return
    }
    if (point.ok || frame === undefined) return
    frame.failures.push(point.name)
    this.#yamlTarget = frame.failures
  }

  #close(depth: number, point: Point, tookMs: number): void {
    this.#frames.length = depth + 1
    const frame = this.#frames[depth]
    if (frame === undefined) return
    const told = this.#tests.some((test) => test.verdict === 'failed' && this.#isInside(test))
    if (point.skip === 'no tests found') this.#add('failed', '', ['the file holds no tests'])
    else if (point.skip !== null) this.#add('skipped', point.skip, [])
    else if (!point.ok && (!told || frame.failures.length > 0)) {
      this.#add('failed', '', frame.failures)
      if (frame.failures.length === 0) this.#yamlTarget = frame.failures
    } else if (!frame.hasSubtests && point.ok) this.#add('passed', '', [])
    this.#frames.length = depth
    if (depth > 0) return
    this.#onFile({ file: frame.name, tests: this.#tests, tookMs })
    this.#tests = []
  }

  #isInside(test: TestResult): boolean {
    const path = this.#path()
    return path === '' || test.name === path || test.name.startsWith(`${path} › `)
  }

  #path(): string {
    return this.#frames
      .slice(1)
      .map((frame) => frame.name)
      .join(' › ')
  }

  #add(
    verdict: TestResult['verdict'],
    reason: string,
    detail: readonly string[],
    last?: string,
  ): void {
    const path = [this.#path(), last ?? ''].filter((part) => part !== '').join(' › ')
    const file = this.#frames[0]?.name ?? ''
    this.#tests.push({ file, name: path === '' ? file : path, verdict, reason, detail })
  }
}
