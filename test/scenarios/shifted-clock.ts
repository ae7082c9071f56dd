// Preloaded into one agent (`node --import`): its time of day is CLOCK_SHIFT_MS off, from the start, or with CLOCK_SHIFT_LATER
// once it gets SIGUSR2. Time that is measured, performance.now() and timers, runs as ever.
const shiftMs = Number(process.env['CLOCK_SHIFT_MS'])
const RealDate = Date

class ShiftedDate extends RealDate {
  constructor(...fields: readonly unknown[]) {
    super(...((fields.length === 0 ? [ShiftedDate.now()] : fields) as [number]))
  }

  static override now(): number {
    return RealDate.now() + shiftMs
  }
}

function shift(): void {
  Object.assign(globalThis, { Date: ShiftedDate })
}

if (process.env['CLOCK_SHIFT_LATER'] === undefined) shift()
else process.on('SIGUSR2', shift)
