// A reporter of the test runner: `pass` or `fail` and a pattern for the name of each test, one per line. Groups are omitted: they
// fail with their tests.

export default async function* results(events) {
  for await (const { type, data } of events) {
    const isGroup = data.details?.type === 'suite' || data.details?.error?.failureType === 'subtestsFailed';
    if (isGroup || !['test:pass', 'test:fail'].includes(type)) continue;
    yield `${type.slice('test:'.length)} ${data.name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}\n`;
  }
}
