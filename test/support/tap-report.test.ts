import t from 'tap'
import { type FileResult, TapReport } from './tap-report.ts'

function read(text: string): FileResult[] {
  const files: FileResult[] = []
  const report = new TapReport((file) => files.push(file))
  for (const line of text.split('\n')) report.line(line)
  return files
}

function summary(text: string): string[] {
  return read(text).flatMap(({ tests }) =>
    tests.map(({ verdict, name, reason }) => [verdict, name, reason].filter(Boolean).join(': ')),
  )
}

t.test('TapReport counts subtests, not assertions and not their groups', async (t) => {
  const text = `TAP version 14
1..1
# Subtest: test/a.test.ts
    # Subtest: one works
        ok 1 - same
        ok 2 - same again
        1..2
    ok 1 - one works # time=3.9ms

    # Subtest: group
        # Subtest: inner
            ok 1 - x
            1..1
        ok 1 - inner # time=1ms
        1..1
    ok 2 - group # time=2ms
    1..2
ok 1 - test/a.test.ts # time=12.5ms`
  t.same(summary(text), ['passed: one works', 'passed: group › inner'])
  t.equal(read(text)[0]?.tookMs, 12.5)
})

t.test('TapReport keeps the reason of everything left out', async (t) => {
  const text = `# Subtest: test/a.test.ts
    ok 1 - by option # SKIP no root
    # Subtest: by plan
        1..0 # needs nginx
    ok 2 - by plan # SKIP needs nginx
    1..2
ok 1 - test/a.test.ts # time=1ms
# Subtest: test/b.test.ts
    1..0 # needs etcd
ok 2 - test/b.test.ts # SKIP needs etcd`
  t.same(summary(text), [
    'skipped: by option: no root',
    'skipped: by plan: needs nginx',
    'skipped: test/b.test.ts: needs etcd',
  ])
})

t.test('TapReport tells a failing test once, with what went wrong', async (t) => {
  const text = `# Subtest: test/a.test.ts
    # Subtest: group
        # Subtest: bad
            not ok 1 - two \\# three
              ---
              diff: |
                -2
                # Subtest: not a test
                +1
              ...
            1..1
        not ok 1 - bad # time=24ms
          ---
          at: here
          ...
        1..1
    not ok 1 - group # time=32ms
    1..1
not ok 1 - test/a.test.ts # time=61ms`
  t.same(summary(text), ['failed: group › bad'])
  t.match(read(text)[0]?.tests[0]?.detail.join('\n'), /two # three[^]*-2/)
})

t.test('TapReport fails a group whose own assertion or end is bad', async (t) => {
  const text = `# Subtest: test/a.test.ts
    # Subtest: group
        # Subtest: fine
            ok 1 - x
            1..1
        ok 1 - fine # time=1ms
        not ok 2 - test unfinished
        1..2
    not ok 1 - group # time=32ms
    1..1
not ok 1 - test/a.test.ts # time=61ms`
  t.same(summary(text), ['passed: group › fine', 'failed: group'])
})

t.test('TapReport fails a file that crashed or holds no tests', async (t) => {
  const text = `# Subtest: test/a.test.ts
    1..0 # no tests found
not ok 1 - test/a.test.ts # time=257ms
  ---
  exitCode: 1
  ...
# Subtest: test/b.test.ts
    1..0 # no tests found
ok 2 - test/b.test.ts # SKIP no tests found`
  t.same(summary(text), ['failed: test/a.test.ts', 'failed: test/b.test.ts'])
  t.match(read(text)[0]?.tests[0]?.detail, ['exitCode: 1'])
})
