package storage

// seekData is lseek's SEEK_DATA.
const seekData = 3
