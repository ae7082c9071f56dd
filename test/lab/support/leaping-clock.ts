// Preloaded into one agent (`node --import`): with each SIGUSR2, time that is measured, performance.now(), leaps by CLOCK_LEAP_MS. Timers and
// the time of day run as ever.
const leapMs = Number(process.env['CLOCK_LEAP_MS'])
const now = performance.now.bind(performance)
let leapedMs = 0

performance.now = () => now() + leapedMs
process.on('SIGUSR2', () => {
  leapedMs += leapMs
})
