//! How a statement is written down.

macro_rules! without_lifetime {
    ($name:ident) => { $name };
    ($name:ident $life:lifetime) => { $name<'static> };
}

/// What all statements are: a type with the values, which is its own name in the cache of prepared statements.
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident [$($life:lifetime)?] { $($field:ident: $type:ty),* } [$($row:ty)?]) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(in crate::store) struct $name $(<$life>)? {
            $(pub(in crate::store) $field: $type,)*
        }

        impl $(<$life>)? QueryId for $name $(<$life>)? {
            type QueryId = without_lifetime!($name $($life)?);
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        returns!($name [$($life)?] $($row)?);

        impl<$($life,)? C> RunQueryDsl<C> for $name $(<$life>)? {}
    };
}

macro_rules! returns {
    ($name:ident [$($life:lifetime)?]) => {};
    ($name:ident [] $row:ty) => {
        impl Query for $name {
            type SqlType = $row;
        }
    };
    ($name:ident [$life:lifetime] $row:ty) => {
        impl<$life> Query for $name<$life> {
            type SqlType = $row;
        }
    };
}

/// The text of a statement about one row, with the values where they are bound.
macro_rules! walk {
    ($name:ident [$($life:lifetime)?] $({$text:expr} $field:ident $sql:ty),*; $end:expr) => {
        walk!(Sqlite, $name [$($life)?] $({$text} $field $sql),*; $end);
        walk!(Pg, $name [$($life)?] $({$text} $field $sql),*; $end);
    };
    ($backend:ty, $name:ident [$($life:lifetime)?] $({$text:expr} $field:ident $sql:ty),*; $end:expr) => {
        impl $(<$life>)? QueryFragment<$backend> for $name $(<$life>)? {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $backend>) -> QueryResult<()> {
                $(
                    out.push_sql($text);
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                )*
                out.push_sql($end);
                Ok(())
            }
        }
    };
}

/// The text of the same statement about many rows: the arrays of their values stand between `head` and `tail`.
macro_rules! walk_many {
    ($name:ident [$($life:lifetime)?] $head:expr, {$($field:ident: $type:ty as $sql:ty),*}, $tail:expr) => {
        impl $(<$life>)? ForMany for $name $(<$life>)? {
            type Columns = ($(Vec<$type>,)*);

            fn columns(rows: Vec<Self>) -> Self::Columns {
                $(let mut $field = Vec::with_capacity(rows.len());)*
                for row in rows {
                    $($field.push(row.$field);)*
                }
                ($($field,)*)
            }

            fn walk_many<'b>(
                columns: &'b Self::Columns,
                mut out: AstPass<'_, 'b, Pg>,
            ) -> QueryResult<()> {
                let ($($field,)*) = columns;
                let mut before = $head;
                $(
                    out.push_sql(std::mem::replace(&mut before, ", "));
                    out.push_bind_param::<Array<$sql>, _>($field)?;
                )*
                out.push_sql($tail);
                Ok(())
            }
        }
    };
}

/// Statements of any form: `"text" field: type as SQL type, …; "end"`.
macro_rules! statements {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? {
            $($text:literal $field:ident: $type:ty as $sql:ty),*;
            $end:literal $(-> $row:ty)?
        }
    )*) => {$(
        statement!($(#[$doc])* $name [$($life)?] { $($field: $type),* } [$($row)?]);
        walk!($name [$($life)?] $({$text} $field $sql),*; $end);
    )*};
}

/// Rows of a table, one or many: `"table" { column: type as SQL type, … }`.
macro_rules! insertions {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? $table:literal {
            $first:ident: $first_type:ty as $first_sql:ty
            $(, $field:ident: $type:ty as $sql:ty)* $(,)?
        }
    )*) => {$(
        statement!($(#[$doc])* $name [$($life)?] { $first: $first_type $(, $field: $type)* } []);
        walk!(
            $name [$($life)?]
            {concat!("INSERT INTO ", $table, " (", stringify!($first) $(, ", ", stringify!($field))*, ") VALUES (")}
            $first $first_sql $(, {", "} $field $sql)*;
            ")"
        );
        walk_many!(
            $name [$($life)?]
            concat!(
                "INSERT INTO ", $table, " (", stringify!($first) $(, ", ", stringify!($field))*,
                ") SELECT * FROM UNNEST("
            ),
            {$first: $first_type as $first_sql $(, $field: $type as $sql)*},
            ")"
        );
    )*};
}

/// Rows that are deleted by these columns, one or many: `"table" { column: type as SQL type, … } "returning"`.
macro_rules! deletions {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? $table:literal {
            $first:ident: $first_type:ty as $first_sql:ty
            $(, $field:ident: $type:ty as $sql:ty)* $(,)?
        } $returning:literal $(-> $row:ty)?
    )*) => {$(
        statement!($(#[$doc])* $name [$($life)?] { $first: $first_type $(, $field: $type)* } [$($row)?]);
        walk!(
            $name [$($life)?]
            {concat!("DELETE FROM ", $table, " WHERE ", stringify!($first), " = ")} $first $first_sql
            $(, {concat!(" AND ", stringify!($field), " = ")} $field $sql)*;
            $returning
        );
        walk_many!(
            $name [$($life)?]
            concat!("DELETE FROM ", $table, " USING UNNEST("),
            {$first: $first_type as $first_sql $(, $field: $type as $sql)*},
            concat!(
                ") AS these (this_", stringify!($first) $(, ", this_", stringify!($field))*, ") WHERE ",
                stringify!($first), " = this_", stringify!($first)
                $(, " AND ", stringify!($field), " = this_", stringify!($field))*,
                $returning
            )
        );
    )*};
}

/// A column that is changed in the row of that number, one or many: `"table" { column: type as SQL type; number: type as SQL type }`.
macro_rules! changes {
    ($(
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? $table:literal {
            $field:ident: $type:ty as $sql:ty; $key:ident: $key_type:ty as $key_sql:ty
        }
    )*) => {$(
        statement!($(#[$doc])* $name [$($life)?] { $field: $type, $key: $key_type } []);
        walk!(
            $name [$($life)?]
            {concat!("UPDATE ", $table, " SET ", stringify!($field), " = ")} $field $sql,
            {concat!(" WHERE ", stringify!($key), " = ")} $key $key_sql;
            ""
        );
        walk_many!(
            $name [$($life)?]
            concat!("UPDATE ", $table, " SET ", stringify!($field), " = this_value FROM UNNEST("),
            {$field: $type as $sql, $key: $key_type as $key_sql},
            concat!(") AS these (this_value, this_key) WHERE ", stringify!($key), " = this_key")
        );
    )*};
}

/// What is found by a number, for one or many of them: `"select" column: type as SQL type; "end"`.
macro_rules! lookups {
    ($(
        $(#[$doc:meta])*
        $name:ident { $select:literal $field:ident: $type:ty as $sql:ty; $end:literal -> $row:ty }
    )*) => {$(
        statement!($(#[$doc])* $name [] { $field: $type } [$row]);
        walk!(
            $name []
            {concat!($select, " WHERE ", stringify!($field), " = ")} $field $sql;
            $end
        );
        walk_many!(
            $name []
            concat!($select, " WHERE ", stringify!($field), " = ANY("),
            {$field: $type as $sql},
            concat!(")", $end)
        );
    )*};
}
